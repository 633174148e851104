#include "client/cli/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <nlohmann/json.hpp>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo::cli {
namespace {

constexpr char kDefaultServer[] = "127.0.0.1:7070";
constexpr size_t kLargestFile = 1 << 20;

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kLargestFile + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  if (file.bad() || text.empty() || text.size() > kLargestFile) {
    return absl::InvalidArgumentError(
        fmt::format("{}: cannot be read, is empty or larger than 1 MiB", path));
  }
  return text;
}

absl::Status ReadIfGiven(const std::string& path, std::string& into) {
  if (path.empty()) return absl::OkStatus();
  MNEMO_ASSIGN_OR_RETURN(into, ReadText(path));
  return absl::OkStatus();
}

std::string FirstGiven(const std::string& flag, const std::string& environment) {
  return flag.empty() ? environment : flag;
}

// Fills what `files` name into the client's options.
absl::Status ReadConnectionFiles(const ConnectionFiles& files, bool tls,
                                 client::ClientOptions& options) {
  MNEMO_RETURN_IF_ERROR(ReadIfGiven(files.token, options.token));
  while (options.token.ends_with('\n') || options.token.ends_with('\r')) options.token.pop_back();
  if (!tls && files.ca.empty() && files.certificate.empty() && files.key.empty()) {
    return absl::OkStatus();
  }
  client::TlsOptions& read = options.tls.emplace();
  read.server_name = files.server_name;
  MNEMO_RETURN_IF_ERROR(ReadIfGiven(files.ca, read.ca));
  MNEMO_RETURN_IF_ERROR(ReadIfGiven(files.certificate, read.certificate));
  return ReadIfGiven(files.key, read.key);
}

}  // namespace

absl::StatusOr<client::Client*> Invocation::Connect() {
  if (!client_) {
    if (server.empty()) server = surroundings_.default_server;
    if (server.empty()) server = kDefaultServer;
    MNEMO_ASSIGN_OR_RETURN(const auto limit, ParseDuration(timeout));
    client::ClientOptions options{.target = server, .user_agent = "mnemoctl"};
    options.timeout = std::chrono::duration_cast<client::Millis>(limit);
    options.transfer_timeout = options.timeout;
    const ConnectionFiles& defaults = surroundings_.default_files;
    MNEMO_RETURN_IF_ERROR(
        ReadConnectionFiles({.token = FirstGiven(files.token, defaults.token),
                             .ca = FirstGiven(files.ca, defaults.ca),
                             .certificate = FirstGiven(files.certificate, defaults.certificate),
                             .key = FirstGiven(files.key, defaults.key),
                             .server_name = FirstGiven(files.server_name, defaults.server_name)},
                            tls, options));
    MNEMO_ASSIGN_OR_RETURN(client_, client::Client::Connect(options));
  }
  return client_.get();
}

client::CallOptions Invocation::call_options() { return {.cancel = &cancel_}; }

void Invocation::Print(const nlohmann::ordered_json& value,
                       const std::function<void(bool wide)>& table) {
  switch (format) {
    case Format::kJson:
      return PrintJson(out(), value);
    case Format::kYaml:
      return PrintYaml(out(), value);
    default:
      return table(format == Format::kWide);
  }
}

ExitCode Invocation::Fail(const absl::Status& status) {
  const ExitCode code = ExitCodeOf(status);
  const std::string where =
      code == ExitCode::kUnreachable ? fmt::format(" (server {})", server) : "";
  const std::string what =
      absl::IsCancelled(status) ? "cancelled" : Printable(std::string(status.message()));
  err() << fmt::format("mnemoctl: {}{}\n", what, where);
  return code;
}

bool Invocation::Confirm(const std::string& question) {
  if (yes) return true;
  if (!surroundings_.input_is_terminal) {
    err() << fmt::format("mnemoctl: {} Say --yes to do it without being asked.\n", question);
    return false;
  }
  err() << question << " [y/N] " << std::flush;
  std::string answer;
  std::getline(in(), answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

absl::StatusOr<std::string> ParseKey(const std::string& text) {
  constexpr std::string_view kText = "text:";
  if (text.starts_with(kText)) return text.substr(kText.size());
  std::string key;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    uint8_t byte = 0;
    const char* end = text.data() + i + 2;
    const auto [rest, error] = std::from_chars(text.data() + i, end, byte, 16);
    if (error != std::errc() || rest != end) break;
    key.push_back(static_cast<char>(byte));
  }
  if (text.empty() || key.size() * 2 != text.size()) {
    return absl::InvalidArgumentError(fmt::format(
        "key '{}' is not hexadecimal; write text:{} for the characters themselves", text, text));
  }
  return key;
}

absl::StatusOr<client::SpaceRef> ParseSpace(const std::string& text) {
  constexpr std::string_view kId = "id:";
  if (!text.starts_with(kId)) return client::SpaceRef(text);
  uint64_t id = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + kId.size(), end, id, 16);
  if (error != std::errc() || rest != end) {
    return absl::InvalidArgumentError(fmt::format("space '{}' is not id: and hexadecimal", text));
  }
  return client::SpaceRef(id);
}

std::string_view LevelName(client::Level level) {
  switch (level) {
    case client::Level::kL1:
      return "l1_ram";
    case client::Level::kL2:
      return "l2_ram";
    case client::Level::kL3:
      return "l3_disk";
    case client::Level::kDisk:
      return "archive";
    case client::Level::kNone:
      break;
  }
  return "none";
}

}  // namespace mnemo::cli
