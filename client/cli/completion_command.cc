// mnemoctl completion: made from the command line itself, so that it cannot
// fall behind it.
#include <fmt/format.h>

#include <string>

#include "client/cli/command.h"

namespace mnemo::cli {
namespace {

struct Word {
  std::string path;   // the nouns before it: "", "tier"
  std::string words;  // what may follow, separated by blanks
};

std::string OptionNames(const CLI::App& app) {
  std::string names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names += " --" + name;
  }
  return names;
}

void Collect(const CLI::App& app, const std::string& path, const std::string& global,
             std::vector<Word>& words) {
  std::string here;
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    here += " " + child->get_name();
    Collect(*child, path.empty() ? child->get_name() : path + " " + child->get_name(), global,
            words);
  }
  here += path.empty() ? global : OptionNames(app) + global;
  words.push_back({path, here.substr(here.find_first_not_of(' '))});
}

std::string Bash(const std::vector<Word>& words) {
  std::string script =
      "_mnemoctl() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} path= word\n"
      "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
      "    [[ $word == -* ]] || path=${path:+$path }$word\n"
      "  done\n"
      "  local words=\n"
      "  case $path in\n";
  for (const Word& word : words) {
    script += fmt::format("    '{}') words='{}' ;;\n", word.path, word.words);
  }
  script +=
      "  esac\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
      "}\n"
      "complete -F _mnemoctl mnemoctl\n";
  return script;
}

std::string Zsh(const std::vector<Word>& words) {
  return "#compdef mnemoctl\nautoload -U +X bashcompinit && bashcompinit\n" + Bash(words);
}

std::string Fish(const std::vector<Word>& words) {
  std::string script = "complete -c mnemoctl -f\n";
  for (const Word& word : words) {
    const std::string condition =
        word.path.empty() ? "__fish_use_subcommand"
                          : fmt::format("__fish_seen_subcommand_from {}", word.path);
    script += fmt::format("complete -c mnemoctl -n '{}' -a '{}'\n", condition, word.words);
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
      std::vector<Word> words;
      Collect(app, "", OptionNames(app), words);
      run.out() << (*shell == "bash" ? Bash(words) : *shell == "zsh" ? Zsh(words) : Fish(words));
      return ExitCode::kOk;
    };
  });
}

}  // namespace mnemo::cli
