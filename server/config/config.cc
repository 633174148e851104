#include "server/config/config.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "server/config/address.h"
#include "server/config/budget.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

constexpr std::string_view kPrefix = "MNEMO_";
constexpr std::string_view kFileVariable = "MNEMO_CONFIG";
constexpr uint64_t kLargestFile = kMiB;

// Where the value of each key came from.
using Origins = std::map<std::string, std::string, std::less<>>;

absl::StatusOr<std::string> ReadConfigFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(fmt::format("{}: cannot be read", path));
  std::string text(kLargestFile + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (file.fail() && !file.eof())) {
    return absl::NotFoundError(fmt::format("{}: cannot be read", path));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kLargestFile) {
    return absl::InvalidArgumentError(
        fmt::format("{}: larger than {}", path, FormatByteSize(kLargestFile)));
  }
  return text;
}

absl::Status UnknownKey(const std::vector<Setting>& registry, const Assignment& assignment) {
  std::vector<std::string> known;
  for (const Setting& setting : registry) known.emplace_back(setting.key);
  const std::string nearest = NearestName(assignment.key, known);
  return absl::InvalidArgumentError(
      fmt::format("{}: unknown key '{}'{}", assignment.where, assignment.key,
                  nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
}

absl::Status Assign(const std::vector<Setting>& registry, const Assignment& assignment,
                    Config& config, Origins& origins) {
  const Setting* setting = FindSetting(registry, assignment.key);
  if (setting == nullptr) return UnknownKey(registry, assignment);
  if (const absl::Status status = AssignSetting(*setting, assignment.text, config); !status.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {}", assignment.where, std::string(status.message())));
  }
  origins[assignment.key] = assignment.origin;
  return absl::OkStatus();
}

// Others put variables with our prefix there too: Kubernetes sets
// MNEMO_SERVICE_HOST for a service of that name. So an unknown one is a
// warning, not an error.
absl::Status AssignEnvironment(const std::vector<Setting>& registry, const Environment& environment,
                               Config& config, Origins& origins,
                               std::vector<std::string>& warnings) {
  std::map<std::string, const Setting*> by_name;
  std::vector<std::string> names;
  for (const Setting& setting : registry) {
    names.push_back(setting.EnvironmentName());
    by_name[names.back()] = &setting;
  }
  for (const auto& [name, value] : environment) {
    if (!name.starts_with(kPrefix) || name == kFileVariable) continue;
    if (const auto found = by_name.find(name); found != by_name.end()) {
      MNEMO_RETURN_IF_ERROR(Assign(registry,
                                   {std::string(found->second->key), value, "env:" + name, name},
                                   config, origins));
      continue;
    }
    const std::string nearest = NearestName(name, names);
    warnings.push_back(fmt::format("{} in the environment is not a setting{}", name,
                                   nearest.empty() ? "" : "; did you mean " + nearest + "?"));
  }
  return absl::OkStatus();
}

bool WantsClientCertificates(const Config& config) {
  return !config.tls.certificate.empty() && config.tls.clients == "required";
}

bool IsLoopback(const std::string& text) {
  const absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
  return text.empty() || (address.ok() && address->is_loopback);
}

// `safe`: no need to be loopback, and `needs` is what would make it so.
absl::Status CheckAddress(std::string_view key, const std::string& text, bool safe,
                          std::string_view needs, const Config& config,
                          std::vector<std::string>& warnings) {
  if (safe || IsLoopback(text)) return absl::OkStatus();
  if (!config.insecure) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: {} is not a loopback address; {}bind loopback behind a proxy with TLS, or say "
        "--insecure to let everybody in who reaches the port",
        key, text, needs));
  }
  warnings.push_back(
      fmt::format("{}={} is open to everybody who reaches it (insecure): {}", key, text,
                  config.auth.required ? "only credentials stand before it" : "no authentication"));
  return absl::OkStatus();
}

absl::Status CheckTls(const Config& config) {
  const Config::Tls& tls = config.tls;
  if (tls.certificate.empty() != tls.key.empty()) {
    return absl::InvalidArgumentError(
        "tls.certificate and tls.key: one is given without the other");
  }
  if (tls.certificate.empty()) {
    if (tls.client_ca.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("tls.client_ca: is given without tls.certificate");
  }
  if ((tls.clients == "off") != tls.client_ca.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "tls.client_ca: is {} while tls.clients is {}; it is given for required and optional, and "
        "not for off",
        tls.client_ca.empty() ? "not given" : "given", tls.clients));
  }
  return absl::OkStatus();
}

absl::Status CheckTogether(Config& config, std::vector<std::string>& warnings) {
  MNEMO_RETURN_IF_ERROR(CheckTls(config));
  MNEMO_RETURN_IF_ERROR(CheckAddress("listen", config.listen, WantsClientCertificates(config),
                                     "give tls.certificate, tls.key and tls.client_ca, ", config,
                                     warnings));
  MNEMO_RETURN_IF_ERROR(
      CheckAddress("streams.listen", config.streams.listen, WantsClientCertificates(config),
                   "give tls.certificate, tls.key and tls.client_ca, ", config, warnings));
  MNEMO_RETURN_IF_ERROR(
      CheckAddress("metrics.listen", config.metrics_listen, /*safe=*/false, "", config, warnings));
  if (config.low_watermark >= config.high_watermark) {
    return absl::InvalidArgumentError(
        fmt::format("watermark.low: {} is not below watermark.high: {}", config.low_watermark,
                    config.high_watermark));
  }
  if (config.memory.l2 != 0 && config.memory.l2 < 2 * kMiB) {
    return absl::InvalidArgumentError(
        fmt::format("memory.l2: {} is not allowed; allowed: 0, or 2MiB to 8TiB",
                    FormatByteSize(config.memory.l2)));
  }
  return absl::OkStatus();
}

// "auto" of the socket, through the same check of its length as a path given.
absl::Status DeriveSocket(const std::vector<Setting>& registry, Config& config) {
  if (config.unix_socket != kAutoText) return absl::OkStatus();
  const Setting* setting = FindSetting(registry, "unix_socket");
  if (setting == nullptr) return absl::OkStatus();
  return AssignSetting(*setting, config.data_dir + "/mnemod.sock", config);
}

// The daemon serves without streams as well, so a long path is none of an error.
void DeriveStreamSocket(const std::vector<Setting>& registry, Config& config,
                        std::vector<std::string>& warnings) {
  if (config.streams.unix_socket != kAutoText) return;
  const Setting* setting = FindSetting(registry, "streams.unix_socket");
  if (setting == nullptr) return;
  const absl::Status status = AssignSetting(*setting, config.data_dir + "/streams.sock", config);
  if (status.ok()) return;
  config.streams.unix_socket.clear();
  warnings.push_back(fmt::format("no streams: {}", std::string(status.message())));
}

}  // namespace

bool IsOpenToAnybody(const Config& config) {
  const bool everybody = !WantsClientCertificates(config);
  return (!IsLoopback(config.listen) && everybody) ||
         (!IsLoopback(config.streams.listen) && everybody) || !IsLoopback(config.metrics_listen);
}

Environment ReadEnvironment() {
  Environment environment;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

absl::StatusOr<LoadedConfig> LoadConfig(const CommandLine& command_line,
                                        const Environment& environment, const HostProbe& probe,
                                        const std::vector<Setting>& registry) {
  LoadedConfig loaded;
  Config& config = loaded.config;
  Origins origins;
  for (const Setting& setting : registry) {
    MNEMO_RETURN_IF_ERROR(AssignSetting(setting, setting.default_text, config));
    origins[std::string(setting.key)] = "default";
  }
  std::string path = command_line.config_path;
  if (const auto named = environment.find(std::string(kFileVariable));
      path.empty() && named != environment.end()) {
    path = named->second;
  }
  if (!path.empty()) {
    MNEMO_ASSIGN_OR_RETURN(const std::string text, ReadConfigFile(path));
    MNEMO_ASSIGN_OR_RETURN(const std::vector<Assignment> assignments, ParseYaml(text, path));
    for (const Assignment& assignment : assignments) {
      MNEMO_RETURN_IF_ERROR(Assign(registry, assignment, config, origins));
    }
  }
  MNEMO_RETURN_IF_ERROR(AssignEnvironment(registry, environment, config, origins, loaded.warnings));
  for (const Assignment& assignment : command_line.assignments) {
    MNEMO_RETURN_IF_ERROR(Assign(registry, assignment, config, origins));
  }

  MNEMO_RETURN_IF_ERROR(DeriveSocket(registry, config));
  DeriveStreamSocket(registry, config, loaded.warnings);
  MNEMO_RETURN_IF_ERROR(CheckTogether(config, loaded.warnings));
  MNEMO_ASSIGN_OR_RETURN(const HostFacts facts, probe(config.data_dir));
  MNEMO_RETURN_IF_ERROR(DeriveSizes(facts, config));
  for (const Setting& setting : registry) {
    loaded.entries.push_back({std::string(setting.key), WriteSetting(setting, config),
                              origins[std::string(setting.key)], std::string(setting.description)});
  }
  return loaded;
}

}  // namespace mnemo
