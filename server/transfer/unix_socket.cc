#include "server/transfer/unix_socket.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <vector>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr int kBacklog = 1024;

absl::Status Failed(const std::string& path, const char* what) {
  const std::string text = fmt::format("{}: {}: {}", path, what, std::strerror(errno));
  if (errno == EACCES || errno == EPERM) return absl::PermissionDeniedError(text);
  return absl::UnavailableError(text);
}

std::optional<uint32_t> ParseNumber(const std::string& text) {
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

struct Owner {
  uid_t user = static_cast<uid_t>(-1);  // chown takes these for "as it is"
  gid_t group = static_cast<gid_t>(-1);
};

absl::StatusOr<Owner> ParseOwner(const std::string& text) {
  Owner owner;
  const size_t colon = text.find(':');
  const std::string user = text.substr(0, colon);
  const std::string group = colon == std::string::npos ? "" : text.substr(colon + 1);
  std::vector<char> buffer(16384);
  if (const auto number = ParseNumber(user)) {
    owner.user = *number;
  } else if (!user.empty()) {
    passwd entry{};
    passwd* found = nullptr;
    ::getpwnam_r(user.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (found == nullptr) return absl::InvalidArgumentError(fmt::format("no user '{}'", user));
    owner.user = found->pw_uid;
  }
  if (const auto number = ParseNumber(group)) {
    owner.group = *number;
  } else if (!group.empty()) {
    ::group entry{};
    ::group* found = nullptr;
    ::getgrnam_r(group.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (found == nullptr) return absl::InvalidArgumentError(fmt::format("no group '{}'", group));
    owner.group = found->gr_gid;
  }
  return owner;
}

// Removes a socket that a daemon left behind. Errors: kAlreadyExists.
absl::Status RemoveStale(const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return absl::OkStatus();
  const auto taken = [&](const char* why) {
    return absl::AlreadyExistsError(fmt::format("{}: {}", path, why));
  };
  if (!S_ISSOCK(status.st_mode)) return taken("is there and no socket");
  const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int connected =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  // Whoever listens refuses nobody; a full backlog is EAGAIN.
  if (connected == 0 || errno != ECONNREFUSED) return taken("somebody listens there");
  ::unlink(path.c_str());
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSocketOwner(const std::string& owner) { return ParseOwner(owner).status(); }

absl::StatusOr<Descriptor> ListenUnix(const std::string& path, const SocketAccess& access) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(fmt::format("{}: is {} bytes long; it must be 1 to {}", path,
                                                  path.size(), sizeof(address.sun_path) - 1));
  }
  std::copy(path.begin(), path.end(), address.sun_path);
  MNEMO_ASSIGN_OR_RETURN(const Owner owner, ParseOwner(access.owner));
  MNEMO_RETURN_IF_ERROR(RemoveStale(path, address));
  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return Failed(path, "socket");
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return Failed(path, "bind");
  }
  // Before anybody can connect, which listen lets them.
  if ((!access.owner.empty() && ::chown(path.c_str(), owner.user, owner.group) != 0) ||
      ::chmod(path.c_str(), access.mode) != 0) {
    return Failed(path, "access");
  }
  if (::listen(socket.get(), kBacklog) != 0) return Failed(path, "listen");
  return socket;
}

}  // namespace mnemo
