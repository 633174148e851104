#include "server/config/command_line.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>
#include <sstream>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Deeper than any key: the walk ends before a hostile file can recurse.
constexpr int kMaxDepth = 8;
// More than there are settings: aliases of aliases would otherwise expand
// without end.
constexpr size_t kMaxAssignments = 1000;

absl::Status AtLine(const std::string& path, const YAML::Mark& mark, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("{}:{}: {}", path, mark.line + 1, what));
}

// Appends the assignments of the mapping `node`, whose keys get `prefix`.
absl::Status Flatten(const YAML::Node& node, const std::string& prefix, int depth,
                     const std::string& path, std::set<std::string>& seen,
                     std::vector<Assignment>& into) {
  if (depth > kMaxDepth) return AtLine(path, node.Mark(), "nested too deeply");
  for (const auto& entry : node) {
    if (into.size() >= kMaxAssignments) return AtLine(path, node.Mark(), "too many keys");
    if (!entry.first.IsScalar()) return AtLine(path, entry.first.Mark(), "a key is not a word");
    const std::string& name = entry.first.Scalar();
    const std::string key = prefix.empty() ? name : prefix + "." + name;
    // "a.b" and "b" below "a" are one key, too.
    if (!seen.insert(key).second) {
      return AtLine(path, entry.first.Mark(), fmt::format("{} is there twice", key));
    }
    const YAML::Node& value = entry.second;
    if (value.IsMap()) {
      MNEMO_RETURN_IF_ERROR(Flatten(value, key, depth + 1, path, seen, into));
    } else if (value.IsScalar()) {
      into.push_back({key, value.Scalar(), "file:" + path,
                      fmt::format("{}:{}", path, entry.first.Mark().line + 1)});
    } else {
      return AtLine(path, entry.first.Mark(),
                    fmt::format("{} has {} where a value belongs", key,
                                value.IsSequence() ? "a list" : "nothing"));
    }
  }
  return absl::OkStatus();
}

// YAML::Load reads the first document and passes over the others in silence.
absl::Status RefuseSecondDocument(const std::string& text, const std::string& path) {
  bool begun = false;
  int number = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.starts_with("---")) {
      if (begun) {
        return absl::InvalidArgumentError(
            fmt::format("{}:{}: a second document; only one is read", path, number));
      }
      begun = true;
    } else if (!line.empty() && line[0] != '#' && line[0] != '%') {
      begun = true;
    }
  }
  return absl::OkStatus();
}

// CLI11 says only that an argument is unknown.
std::string Suggestion(const std::vector<std::string>& arguments, const CLI::App& app) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) known.push_back(option->get_name());
  for (const std::string& argument : arguments) {
    const std::string name = argument.substr(0, argument.find('='));
    if (name.rfind("--", 0) != 0 || std::count(known.begin(), known.end(), name) != 0) continue;
    const std::string nearest = NearestName(name, known);
    if (!nearest.empty()) return fmt::format("; did you mean {}?", nearest);
  }
  return "";
}

absl::Status TakeSet(const std::vector<std::string>& pairs, CommandLine& command_line) {
  for (const std::string& pair : pairs) {
    const size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(
          fmt::format("--set: '{}' is not KEY=VALUE, such as memory.l1=2GiB", pair));
    }
    command_line.assignments.push_back(
        {pair.substr(0, equals), pair.substr(equals + 1), "flag", "--set"});
  }
  return absl::OkStatus();
}

absl::Status RefuseRepeats(const std::vector<Assignment>& assignments) {
  std::set<std::string> seen;
  for (const Assignment& assignment : assignments) {
    if (!seen.insert(assignment.key).second) {
      return absl::InvalidArgumentError(
          fmt::format("{} is given twice on the command line", assignment.key));
    }
  }
  return absl::OkStatus();
}

struct Modes {
  bool check = false;
  bool print = false;
  bool schema = false;
  bool reference = false;
  bool example = false;
  bool version = false;

  CommandLine::Action Chosen() const {
    using Action = CommandLine::Action;
    if (version) return Action::kPrintVersion;
    if (schema) return Action::kPrintSchema;
    if (reference) return Action::kPrintReference;
    if (example) return Action::kPrintExample;
    if (check) return Action::kCheckConfig;
    return print ? Action::kPrintConfig : Action::kServe;
  }
};

void AddModes(CLI::App& app, Modes& modes) {
  app.add_flag("--check-config", modes.check, "Check the configuration and exit");
  app.add_flag("--print-config", modes.print,
               "Print the configuration in force with the origin of each value, and exit");
  app.add_flag("--print-config-schema", modes.schema,
               "Print the JSON Schema of the configuration file and exit");
  app.add_flag("--print-config-reference", modes.reference,
               "Print every setting as Markdown and exit");
  app.add_flag("--print-config-example", modes.example,
               "Print a commented configuration file and exit");
  app.add_flag("--version", modes.version, "Print the version and exit");
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& arguments,
                                             const std::vector<Setting>& registry) {
  CommandLine command_line;
  CLI::App app("mnemod: a memory service for LLM inference", "mnemod");
  Modes modes;
  std::vector<std::string> pairs;
  std::vector<std::string> values(registry.size());
  std::vector<CLI::Option*> options(registry.size(), nullptr);
  app.add_option("--config", command_line.config_path, "Configuration file (YAML)");
  app.add_option("--set", pairs, "Any setting, as KEY=VALUE; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  AddModes(app, modes);
  for (size_t i = 0; i < registry.size(); ++i) {
    const Setting& setting = registry[i];
    if (!setting.has_flag) continue;
    const std::string description(setting.description);
    if (std::holds_alternative<BooleanField>(setting.field)) {
      options[i] = app.add_flag(setting.FlagName() + "{true}", values[i], description);
    } else {
      options[i] = app.add_option(setting.FlagName(), values[i], description);
    }
  }
  // CLI11 reports by exceptions; none leaves this function.
  try {
    // It takes them from the back.
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    command_line.action = CommandLine::Action::kPrintHelp;
    command_line.help = app.help();
    return command_line;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(
        fmt::format("command line: {}{}", error.what(), Suggestion(arguments, app)));
  }
  command_line.action = modes.Chosen();
  for (size_t i = 0; i < registry.size(); ++i) {
    if (options[i] == nullptr || options[i]->count() == 0) continue;
    command_line.assignments.push_back(
        {std::string(registry[i].key), values[i], "flag", registry[i].FlagName()});
  }
  MNEMO_RETURN_IF_ERROR(TakeSet(pairs, command_line));
  MNEMO_RETURN_IF_ERROR(RefuseRepeats(command_line.assignments));
  return command_line;
}

absl::StatusOr<std::vector<Assignment>> ParseYaml(const std::string& text,
                                                  const std::string& path) {
  std::vector<Assignment> assignments;
  std::set<std::string> seen;
  // yaml-cpp reports by exceptions; none leaves this function.
  try {
    MNEMO_RETURN_IF_ERROR(RefuseSecondDocument(text, path));
    const YAML::Node root = YAML::Load(text);
    if (root.IsNull()) return assignments;
    if (!root.IsMap()) return AtLine(path, root.Mark(), "the file is not a mapping of keys");
    MNEMO_RETURN_IF_ERROR(Flatten(root, "", 1, path, seen, assignments));
  } catch (const YAML::Exception& error) {
    return AtLine(path, error.mark, fmt::format("not YAML: {}", error.msg));
  }
  return assignments;
}

}  // namespace mnemo
