// Who calls: the tenant, the principal and what they may do.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mnemo {

// What somebody may do. Kept on disk by its name.
//
// reader: finds and reads what the tenant has. writer: also stores, touches,
// pins and deletes it. tenant-admin: also deletes spaces and hands out tokens of
// the tenant. operator: the node itself, its configuration and its tenants, but
// nobody's data. metrics: figures of the node.
enum class Role : uint8_t { kReader, kWriter, kTenantAdmin, kOperator, kMetrics };
inline constexpr size_t kRoleCount = 5;

// "reader", "writer", "tenant-admin", "operator", "metrics".
std::string_view RoleName(Role role);
// Errors: kInvalidArgument, naming the known ones.
absl::StatusOr<Role> ParseRole(std::string_view name);

// A set of roles: a plain value. No role contains another here: a rule names each
// role that it lets in, so a writer reads because the rules of reading say so.
class RoleSet {
 public:
  constexpr RoleSet() = default;
  constexpr RoleSet(std::initializer_list<Role> roles) {
    for (const Role role : roles) bits_ |= Bit(role);
  }
  static constexpr RoleSet All() { return FromBits((1u << kRoleCount) - 1); }
  static constexpr RoleSet FromBits(uint32_t bits) {
    RoleSet set;
    set.bits_ = static_cast<uint8_t>(bits & ((1u << kRoleCount) - 1));
    return set;
  }

  constexpr bool Has(Role role) const { return (bits_ & Bit(role)) != 0; }
  constexpr bool Intersects(RoleSet other) const { return (bits_ & other.bits_) != 0; }
  constexpr bool Contains(RoleSet other) const { return (bits_ & other.bits_) == other.bits_; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr uint8_t bits() const { return bits_; }
  constexpr RoleSet operator|(RoleSet other) const { return FromBits(bits_ | other.bits_); }
  friend constexpr bool operator==(RoleSet, RoleSet) = default;

  // "reader, writer"; empty for none.
  std::string ToString() const;

 private:
  static constexpr uint8_t Bit(Role role) {
    return static_cast<uint8_t>(1u << static_cast<unsigned>(role));
  }
  uint8_t bits_ = 0;
};

// The tenant of a daemon for which none was configured.
inline constexpr uint64_t kLocalTenant = 1;
inline constexpr std::string_view kLocalTenantName = "local";

// Resolved for each call from its own credentials, never from a field of the
// request. A plain value.
struct Identity {
  uint64_t tenant = kLocalTenant;
  std::string principal = "local";
  RoleSet roles = RoleSet::All();
  // What it was resolved from; Authenticator::Recheck asks for it again. 0: no
  // credential was needed.
  uint64_t credential = 0;
};

// May `identity` do what needs one of `allowed`? Errors: kPermissionDenied, with
// the roles that would do.
absl::Status CheckRoles(const Identity& identity, RoleSet allowed);

// How a call's caller was judged.
enum class AuthOutcome : uint8_t { kAccepted, kUnauthenticated, kDenied };
inline constexpr size_t kAuthOutcomeCount = 3;
// "accepted", "unauthenticated", "denied": the label of metrics.
std::string_view AuthOutcomeLabel(AuthOutcome outcome);

}  // namespace mnemo
