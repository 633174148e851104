// The table of settings for people and for editors: all generated, so that
// none can differ from what the daemon reads.
#pragma once

#include <string>
#include <vector>

#include "server/config/registry.h"

namespace mnemo {

// JSON Schema (2020-12) of the file.
std::string ConfigSchema(const std::vector<Setting>& registry = ConfigRegistry());
// docs/operations-config.md
std::string ConfigReference(const std::vector<Setting>& registry = ConfigRegistry());
// deploy/config/mnemod.yaml: every key, commented out, with its default.
std::string ConfigExample(const std::vector<Setting>& registry = ConfigRegistry());

}  // namespace mnemo
