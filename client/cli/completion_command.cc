// mnemoctl completion: made from the command line itself, so that it cannot
// fall behind it.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "client/cli/command.h"

namespace mnemo::cli {
namespace {

constexpr char kShells[] = "bash zsh fish";

// What may follow a command's own words.
struct Place {
  std::vector<std::string> path;  // {}, {"tier"}, {"tier", "inspect"}
  std::vector<std::string> commands;
  std::vector<std::string> options;  // its own, long names without dashes
  std::vector<std::string> valued;   // those of them that a word follows
};

bool TakesValue(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

void Collect(const CLI::App& app, const std::vector<std::string>& path, std::vector<Place>& all) {
  Place place{.path = path};
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      if (name == "help" && !path.empty()) continue;  // the program's own stands for all
      place.options.push_back(name);
      if (TakesValue(*option)) place.valued.push_back(name);
    }
  }
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    place.commands.push_back(child->get_name());
    std::vector<std::string> below = path;
    below.push_back(child->get_name());
    Collect(*child, below, all);
  }
  all.push_back(std::move(place));
}

std::string Joined(const std::vector<std::string>& words, std::string_view before_each = "") {
  std::string text;
  for (const std::string& word : words) {
    text += fmt::format("{}{}{}", text.empty() ? "" : " ", before_each, word);
  }
  return text;
}

// The words behind which a value stands, short names too: "--space|-s".
std::string ValuedOptions(const CLI::App& app) {
  std::set<std::string> words;
  for (const CLI::Option* option : app.get_options()) {
    if (!TakesValue(*option)) continue;
    for (const std::string& name : option->get_lnames()) words.insert("--" + name);
    for (const std::string& name : option->get_snames()) words.insert("-" + name);
  }
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : "|") + word;
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    const std::string below = ValuedOptions(*child);
    if (!below.empty()) text += (text.empty() ? "" : "|") + below;
  }
  return text;
}

std::string Bash(const CLI::App& app, const std::vector<Place>& places) {
  const std::string global = Joined(places.back().options, "--");
  std::string known;
  std::string words;
  for (const Place& place : places) {
    const std::string path = Joined(place.path);
    std::string follow = Joined(place.commands);
    if (path == "completion") follow = kShells;
    if (!path.empty()) known += fmt::format("{}'{}'", known.empty() ? "" : "|", path);
    follow += " " + Joined(place.options, "--");
    if (!path.empty()) follow += " " + global;
    words += fmt::format("    '{}') words='{}' ;;\n", path, follow);
  }
  // A word counts if a command has it there: options, their values and
  // arguments such as a key do not lead elsewhere.
  return fmt::format(
      R"(_mnemoctl() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
  local path='' words='' value='' word next
  for word in "${{COMP_WORDS[@]:1:$((COMP_CWORD - 1))}}"; do
    if [[ -n $value ]]; then value=''; continue; fi
    case $word in
      {valued}) value=1; continue ;;
    esac
    next="${{path:+$path }}$word"
    case $next in
      {known}) path=$next ;;
    esac
  done
  case $path in
{words}  esac
  case $previous in
    -o|--output) words='{formats}' ;;
    {valued}) return ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _mnemoctl mnemoctl
)",
      fmt::arg("valued", ValuedOptions(app)), fmt::arg("known", known), fmt::arg("words", words),
      fmt::arg("formats", kFormatNames));
}

std::string Zsh(const CLI::App& app, const std::vector<Place>& places) {
  return "#compdef mnemoctl\nautoload -U +X bashcompinit && bashcompinit\n" + Bash(app, places);
}

std::string Fish(const std::vector<Place>& places) {
  std::string script = "complete -c mnemoctl -f\n";
  for (const Place& place : places) {
    std::string where;
    for (const std::string& word : place.path) {
      where += fmt::format("{}__fish_seen_subcommand_from {}", where.empty() ? "" : "; and ", word);
    }
    const std::string here = where;
    if (place.path.empty()) {
      where = "__fish_use_subcommand";
    } else if (!place.commands.empty()) {
      where += "; and not __fish_seen_subcommand_from " + Joined(place.commands);
    }
    std::string follow = Joined(place.commands);
    if (Joined(place.path) == "completion") follow = kShells;
    if (!follow.empty()) {
      script += fmt::format("complete -c mnemoctl -n '{}' -a '{}'\n", where, follow);
    }
    for (const std::string& name : place.options) {
      const bool valued =
          std::find(place.valued.begin(), place.valued.end(), name) != place.valued.end();
      script += fmt::format("complete -c mnemoctl{} -l {}{}\n",
                            here.empty() ? "" : fmt::format(" -n '{}'", here), name,
                            name == "output" ? fmt::format(" -s o -x -a '{}'", kFormatNames)
                            : valued         ? " -r"
                                             : "");
    }
  }
  return script;
}

}  // namespace

void AddCompletionCommand(CLI::App& app, Invocation& run) {
  CLI::App* completion = app.add_subcommand("completion", "a completion script for a shell");
  auto shell = std::make_shared<std::string>();
  completion->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->callback([&app, &run, shell] {
    run.action = [&app, &run, shell] {
      std::vector<Place> places;  // the last is the program itself
      Collect(app, {}, places);
      run.out() << (*shell == "bash"  ? Bash(app, places)
                    : *shell == "zsh" ? Zsh(app, places)
                                      : Fish(places));
      return ExitCode::kOk;
    };
  });
}

}  // namespace mnemo::cli
