#include "server/config/identity_file.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr size_t kMaxPrincipals = 10000;
constexpr size_t kMaxListed = 64;  // of one kind of credential

// One file while it is read.
class IdentityFileReader {
 public:
  explicit IdentityFileReader(const std::string& path) : path_(path) {}

  absl::StatusOr<IdentityFile> Read(const YAML::Node& root) const {
    IdentityFile file;
    if (root.IsNull()) return file;
    MNEMO_RETURN_IF_ERROR(CheckKeys(root, {"principals"}));
    const YAML::Node principals = root["principals"];
    if (!principals || principals.IsNull()) return file;
    if (!principals.IsSequence()) return Bad(principals, "principals is not a list");
    if (principals.size() > kMaxPrincipals) {
      return Bad(principals, fmt::format("principals has {} entries; at most {} are allowed",
                                         principals.size(), kMaxPrincipals));
    }
    for (const YAML::Node& node : principals) {
      MNEMO_ASSIGN_OR_RETURN(FilePrincipal principal, ReadPrincipal(node));
      file.push_back(std::move(principal));
    }
    return file;
  }

  absl::Status Bad(const YAML::Node& node, std::string_view what) const {
    return absl::InvalidArgumentError(fmt::format("{}:{}: {}", path_, node.Mark().line + 1, what));
  }

 private:
  absl::Status CheckKeys(const YAML::Node& node, const std::set<std::string>& known) const {
    if (!node.IsMap()) return Bad(node, "not a mapping of keys");
    std::set<std::string> seen;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) return Bad(entry.first, "a key is not a word");
      const std::string& key = entry.first.Scalar();
      if (!known.contains(key)) {
        // Not the key itself: whoever mistypes may have put a secret there.
        return Bad(entry.first, fmt::format("unknown key; allowed: {}", fmt::join(known, ", ")));
      }
      if (!seen.insert(key).second) return Bad(entry.first, fmt::format("{} is there twice", key));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<FilePrincipal> ReadPrincipal(const YAML::Node& node) const {
    MNEMO_RETURN_IF_ERROR(
        CheckKeys(node, {"tenant", "name", "roles", "token_sha256", "certificates", "uids"}));
    FilePrincipal read;
    MNEMO_ASSIGN_OR_RETURN(read.tenant, ReadText(node, "tenant"));
    MNEMO_ASSIGN_OR_RETURN(read.principal.name, ReadText(node, "name"));
    MNEMO_RETURN_IF_ERROR(ReadRoles(node, read.principal));
    MNEMO_RETURN_IF_ERROR(ReadTokens(node, read.principal));
    MNEMO_RETURN_IF_ERROR(ReadCertificates(node, read.principal));
    MNEMO_RETURN_IF_ERROR(ReadUids(node, read.principal));
    if (read.principal.tokens.empty() && read.principal.certificates.empty() &&
        read.principal.uids.empty()) {
      return Bad(node, "a principal without token_sha256, certificates and uids is nobody");
    }
    return read;
  }

  absl::StatusOr<std::string> ReadText(const YAML::Node& node, const std::string& key) const {
    const YAML::Node value = node[key];
    if (!value) return Bad(node, fmt::format("{} is missing", key));
    if (!value.IsScalar()) return Bad(value, fmt::format("{} is not a word", key));
    return value.Scalar();
  }

  absl::StatusOr<std::vector<YAML::Node>> ReadList(const YAML::Node& node,
                                                   const std::string& key) const {
    std::vector<YAML::Node> items;
    const YAML::Node list = node[key];
    if (!list) return items;
    if (!list.IsSequence() || list.size() > kMaxListed) {
      return Bad(list, fmt::format("{} is not a list of at most {} entries", key, kMaxListed));
    }
    for (const YAML::Node& item : list) {
      if (!item.IsScalar()) return Bad(item, fmt::format("an entry of {} is not a word", key));
      items.push_back(item);
    }
    return items;
  }

  absl::Status ReadRoles(const YAML::Node& node, Principal& principal) const {
    MNEMO_ASSIGN_OR_RETURN(const auto items, ReadList(node, "roles"));
    for (const YAML::Node& item : items) {
      const absl::StatusOr<Role> role = ParseRole(item.Scalar());
      if (!role.ok()) return Bad(item, std::string(role.status().message()));
      principal.roles = principal.roles | RoleSet{*role};
    }
    return absl::OkStatus();
  }

  absl::Status ReadTokens(const YAML::Node& node, Principal& principal) const {
    MNEMO_ASSIGN_OR_RETURN(const auto items, ReadList(node, "token_sha256"));
    if (items.size() > kMaxLiveTokens) {
      return Bad(node, fmt::format("token_sha256 has {} entries; at most {} are allowed",
                                   items.size(), kMaxLiveTokens));
    }
    for (const YAML::Node& item : items) {
      TokenRecord token;
      std::string bytes;
      if (!FromHex(item.Scalar(), token.hash.size(), bytes)) {
        return Bad(item, "an entry of token_sha256 is not 64 lower-case hex digits");
      }
      std::copy(bytes.begin(), bytes.end(), token.hash.begin());
      principal.tokens.push_back(token);
    }
    return absl::OkStatus();
  }

  absl::Status ReadCertificates(const YAML::Node& node, Principal& principal) const {
    MNEMO_ASSIGN_OR_RETURN(const auto items, ReadList(node, "certificates"));
    for (const YAML::Node& item : items) {
      const std::string& name = item.Scalar();
      const bool known =
          name.starts_with("uri:") || name.starts_with("dns:") || name.starts_with("cn:");
      if (!known || name.ends_with(':')) {
        return Bad(item, "an entry of certificates is not uri:NAME, dns:NAME or cn:NAME");
      }
      principal.certificates.push_back(name);
    }
    return absl::OkStatus();
  }

  absl::Status ReadUids(const YAML::Node& node, Principal& principal) const {
    MNEMO_ASSIGN_OR_RETURN(const auto items, ReadList(node, "uids"));
    for (const YAML::Node& item : items) {
      const std::string& text = item.Scalar();
      uint32_t uid = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), uid);
      // The last one stands for "none" to the kernel.
      if (error != std::errc() || end != text.data() + text.size() || uid == UINT32_MAX) {
        return Bad(item,
                   fmt::format("an entry of uids is not a number of 0 to {}", UINT32_MAX - 1));
      }
      principal.uids.push_back(uid);
    }
    return absl::OkStatus();
  }

  const std::string& path_;
};

}  // namespace

absl::StatusOr<IdentityFile> ParseIdentityFile(const std::string& text, const std::string& path) {
  // yaml-cpp reports by exceptions; none leaves this function.
  try {
    return IdentityFileReader(path).Read(YAML::Load(text));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        fmt::format("{}:{}: not YAML: {}", path, error.mark.line + 1, error.msg));
  }
}

}  // namespace mnemo
