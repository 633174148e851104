// Command line, environment and YAML, each as a list of assignments.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config/registry.h"

namespace mnemo {

// "key = text, says origin".
struct Assignment {
  std::string key;
  std::string text;
  std::string origin;  // as in ConfigEntry
  std::string where;   // for errors: "--listen", "MNEMO_LISTEN", "FILE:12"
};

struct CommandLine {
  enum class Action {
    kServe,
    kCheckConfig,
    kPrintConfig,     // the configuration in force, with origins
    kPrintSchema,     // JSON Schema of the file
    kPrintReference,  // every key, as Markdown
    kPrintExample,    // a commented file
    kPrintVersion,
    kPrintHelp,
  };
  Action action = Action::kServe;
  std::string config_path;  // empty: MNEMO_CONFIG, else no file
  std::vector<Assignment> assignments;
  std::string help;  // with kPrintHelp
};

// `arguments` without the program's name. Errors: kInvalidArgument.
absl::StatusOr<CommandLine> ParseCommandLine(
    const std::vector<std::string>& arguments,
    const std::vector<Setting>& registry = ConfigRegistry());

// Flattens nested mappings to dotted keys. Knows nothing of which keys exist.
// Errors: kInvalidArgument (not YAML, a key twice, a list or nothing where a
// value belongs), naming `path` and the line.
absl::StatusOr<std::vector<Assignment>> ParseYaml(const std::string& text, const std::string& path);

}  // namespace mnemo
