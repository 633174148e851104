#include "server/identity/principal.h"

#include <fmt/format.h>

#include <algorithm>

#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr uint16_t kFormatVersion = 1;

// Checksum and version in front of what `body` holds.
std::string Seal(std::string body) {
  std::string versioned;
  AppendLittle<uint16_t>(versioned, kFormatVersion);
  versioned += body;
  std::string record;
  AppendLittle<uint64_t>(record, Checksum64(AsBytes(versioned)));
  return record + versioned;
}

absl::StatusOr<ByteReader> Open(ByteView record, std::string_view what) {
  ByteReader reader(record);
  const uint64_t checksum = reader.Little<uint64_t>();
  const ByteView rest = reader.Take(reader.remaining());
  if (!reader.ok() || Checksum64(rest) != checksum) {
    return absl::DataLossError(fmt::format("the record of a {} fails its checksum", what));
  }
  ByteReader body(rest);
  const uint16_t version = body.Little<uint16_t>();
  if (!body.ok() || version != kFormatVersion) {
    return absl::DataLossError(
        fmt::format("the record of a {} has version {}, not {}", what, version, kFormatVersion));
  }
  return body;
}

absl::Status Malformed(std::string_view what) {
  return absl::DataLossError(fmt::format("the record of a {} is malformed", what));
}

bool IsNameLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

}  // namespace

absl::Status CheckName(std::string_view field, std::string_view name) {
  const bool good = !name.empty() && name.size() <= kMaxNameBytes && name[0] != '.' &&
                    name[0] != '-' && std::all_of(name.begin(), name.end(), IsNameLetter);
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{} is {} bytes long, or has other letters than allowed; it must be 1 to {} of a-z, 0-9, "
      "'.', '_' and '-', and begin with a letter, a digit or '_'",
      field, name.size(), kMaxNameBytes));
}

std::string EncodeTenant(const Tenant& tenant) {
  std::string body;
  AppendLittle<uint64_t>(body, tenant.id);
  AppendLittle<int64_t>(body, tenant.created.nanos);
  AppendShort(body, tenant.name);
  return Seal(std::move(body));
}

absl::StatusOr<Tenant> DecodeTenant(ByteView record) {
  MNEMO_ASSIGN_OR_RETURN(ByteReader reader, Open(record, "tenant"));
  Tenant tenant;
  tenant.id = reader.Little<uint64_t>();
  tenant.created.nanos = reader.Little<int64_t>();
  tenant.name = std::string(AsText(reader.TakeShort()));
  if (!reader.ok() || reader.remaining() != 0 || tenant.id == 0 ||
      !CheckName("name", tenant.name).ok()) {
    return Malformed("tenant");
  }
  return tenant;
}

std::string EncodePrincipal(const Principal& principal) {
  std::string body;
  AppendLittle<uint64_t>(body, principal.tenant);
  AppendShort(body, principal.name);
  AppendLittle<uint8_t>(body, principal.roles.bits());
  AppendLittle<int64_t>(body, principal.created.nanos);
  AppendLittle<uint8_t>(body, static_cast<uint8_t>(principal.tokens.size()));
  for (const TokenRecord& token : principal.tokens) {
    AppendLittle<uint64_t>(body, token.id);
    body.append(reinterpret_cast<const char*>(token.hash.data()), token.hash.size());
    AppendLittle<int64_t>(body, token.created.nanos);
    AppendLittle<int64_t>(body, token.expires.nanos);
  }
  return Seal(std::move(body));
}

absl::StatusOr<Principal> DecodePrincipal(ByteView record) {
  MNEMO_ASSIGN_OR_RETURN(ByteReader reader, Open(record, "principal"));
  Principal principal;
  principal.tenant = reader.Little<uint64_t>();
  principal.name = std::string(AsText(reader.TakeShort()));
  const uint8_t roles = reader.Little<uint8_t>();
  principal.roles = RoleSet::FromBits(roles);
  principal.created.nanos = reader.Little<int64_t>();
  const size_t tokens = reader.Little<uint8_t>();
  // A role that this version does not know must not be dropped silently.
  if (tokens > kMaxLiveTokens || principal.roles.bits() != roles) return Malformed("principal");
  for (size_t i = 0; i < tokens; ++i) {
    TokenRecord token;
    token.id = reader.Little<uint64_t>();
    const ByteView hash = reader.Take(token.hash.size());
    std::copy(hash.begin(), hash.end(), token.hash.begin());
    token.created.nanos = reader.Little<int64_t>();
    token.expires.nanos = reader.Little<int64_t>();
    principal.tokens.push_back(token);
  }
  if (!reader.ok() || reader.remaining() != 0 || principal.tenant == 0 ||
      !CheckName("name", principal.name).ok()) {
    return Malformed("principal");
  }
  return principal;
}

}  // namespace mnemo
