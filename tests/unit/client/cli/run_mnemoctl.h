// Runs one command line of mnemoctl in this process.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "client/cli/command.h"

namespace mnemo::cli {

// What stands around the command line.
struct Around {
  std::string server;
  std::string input;
  bool input_is_terminal = false;
  bool messages_on_terminal = false;
  bool colour = false;
  ConnectionFiles files = {};  // of the environment
};

struct Ran {
  ExitCode code = ExitCode::kFailure;
  std::string out;
  std::string err;
};

inline Ran RunMnemoctl(const std::vector<std::string>& arguments, const Around& around = {}) {
  std::vector<const char*> argv = {"mnemoctl"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  std::ostringstream out;
  std::ostringstream err;
  std::istringstream in(around.input);
  const ExitCode code = RunMnemoctl(static_cast<int>(argv.size()), argv.data(),
                                    {.out = out,
                                     .err = err,
                                     .in = in,
                                     .input_is_terminal = around.input_is_terminal,
                                     .messages_on_terminal = around.messages_on_terminal,
                                     .colour = around.colour,
                                     .default_server = around.server,
                                     .default_files = around.files});
  return {code, out.str(), err.str()};
}

}  // namespace mnemo::cli
