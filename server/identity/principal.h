// Tenants and principals as they are kept. docs/formats/identity.md
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/identity/identity.h"
#include "server/identity/random.h"
#include "storage/base/bytes.h"
#include "storage/base/clock.h"

namespace mnemo {

inline constexpr size_t kMaxNameBytes = 64;
// Two, so that a new token can be handed out before the old one ends.
inline constexpr size_t kMaxLiveTokens = 2;
inline constexpr WallTime kNever{std::numeric_limits<int64_t>::max()};

struct Tenant {
  uint64_t id = 0;  // 64 random bits, never reused; kLocalTenant for the local one
  std::string name;
  WallTime created;
  friend bool operator==(const Tenant&, const Tenant&) = default;
};

struct TokenRecord {
  uint64_t id = 0;  // 0: of a configuration file, which knows the hash only
  Sha256Digest hash{};
  WallTime created;
  WallTime expires = kNever;
  friend bool operator==(const TokenRecord&, const TokenRecord&) = default;
};

struct Principal {
  uint64_t tenant = 0;
  std::string name;
  RoleSet roles;
  std::vector<TokenRecord> tokens;  // oldest first; at most kMaxLiveTokens
  WallTime created;
  // Of a configuration file only.
  std::vector<std::string> certificates;  // as CertificateNames writes them
  std::vector<uint32_t> uids;
  bool from_file = false;
};

// 1 to 64 bytes of lower-case letters, digits, '.', '_' and '-', and no '.' or
// '-' first. Errors: kInvalidArgument, naming `field`.
absl::Status CheckName(std::string_view field, std::string_view name);

std::string EncodeTenant(const Tenant& tenant);
// Errors: kDataLoss.
absl::StatusOr<Tenant> DecodeTenant(ByteView record);
// What the file gives is not encoded.
std::string EncodePrincipal(const Principal& principal);
absl::StatusOr<Principal> DecodePrincipal(ByteView record);

}  // namespace mnemo
