// Who may change whose credentials, and a record of every change.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/identity/identity_book.h"

namespace mnemo {

// A change that was made, for the log. Views, valid meanwhile.
struct IdentityChange {
  std::string_view what;  // "tenant-created", "token-created", "-rotated", "-revoked"
  const Identity& by;
  std::string_view tenant;
  std::string_view principal = {};
  uint64_t token = 0;  // 0: none, or all
};

// Thread-safe. Every call names its caller, whose role the gate has checked for the
// method; what is checked here depends on what the call is about. An operator may
// do everything. A tenant-admin stays within its tenant and within the roles reader,
// writer and tenant-admin: neither hands out more, nor touches who has more.
//
// Errors of every call with a tenant, beside those of IdentityBook:
// kPermissionDenied (of a tenant-admin: another tenant, whether it exists or not;
// more roles), kNotFound (of an operator: no such tenant).
class IdentityAdmin {
 public:
  static constexpr std::chrono::seconds kLongestLifetime = std::chrono::hours(24 * 3650);

  // `changed` must not block. What it is made of outlives it.
  IdentityAdmin(IdentityBook& book, Clock& clock,
                std::function<void(const IdentityChange&)> changed)
      : book_(book), clock_(clock), changed_(std::move(changed)) {}

  absl::StatusOr<Tenant> CreateTenant(const Identity& caller, const std::string& name);
  std::vector<Tenant> ListTenants() const { return book_.ListTenants(); }

  struct Made {
    NewToken token;
    WallTime expires = kNever;
  };
  // `tenant` is a name; empty: the caller's own. `lifetime` 0: without end. Errors:
  // kInvalidArgument (lifetime above kLongestLifetime).
  absl::StatusOr<Made> CreateToken(const Identity& caller, const std::string& tenant,
                                   const std::string& principal, RoleSet roles,
                                   std::chrono::seconds lifetime);
  absl::StatusOr<Made> RotateToken(const Identity& caller, const std::string& tenant,
                                   const std::string& principal, std::chrono::seconds lifetime);
  // `token` 0: all of the principal's, and the principal.
  absl::Status RevokeToken(const Identity& caller, const std::string& tenant,
                           const std::string& principal, uint64_t token);
  absl::StatusOr<std::vector<Principal>> ListPrincipals(const Identity& caller,
                                                        const std::string& tenant) const;

 private:
  absl::StatusOr<Tenant> TenantFor(const Identity& caller, const std::string& name) const;
  absl::StatusOr<WallTime> EndOf(std::chrono::seconds lifetime) const;

  IdentityBook& book_;
  Clock& clock_;
  const std::function<void(const IdentityChange&)> changed_;
};

}  // namespace mnemo
