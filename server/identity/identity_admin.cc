#include "server/identity/identity_admin.h"

#include <fmt/format.h>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// What a caller may hand out and take away.
RoleSet RolesWithin(const Identity& caller) {
  if (caller.roles.Has(Role::kOperator)) return RoleSet::All();
  return {Role::kReader, Role::kWriter, Role::kTenantAdmin};
}

}  // namespace

absl::StatusOr<Tenant> IdentityAdmin::TenantFor(const Identity& caller,
                                                const std::string& name) const {
  absl::StatusOr<Tenant> own = book_.TenantById(caller.tenant);
  if (name.empty() || (own.ok() && own->name == name)) return own;
  if (caller.roles.Has(Role::kOperator)) return book_.TenantByName(name);
  return absl::PermissionDeniedError(
      "tenant is not the caller's own; that needs the role operator");
}

absl::StatusOr<WallTime> IdentityAdmin::EndOf(std::chrono::seconds lifetime) const {
  if (lifetime > kLongestLifetime) {
    return absl::InvalidArgumentError(fmt::format("lifetime_seconds is {}; it must be 0 to {}",
                                                  lifetime.count(), kLongestLifetime.count()));
  }
  if (lifetime.count() == 0) return kNever;
  return WallTime{clock_.Wall().nanos + Nanos(lifetime).count()};
}

absl::StatusOr<Tenant> IdentityAdmin::CreateTenant(const Identity& caller,
                                                   const std::string& name) {
  MNEMO_ASSIGN_OR_RETURN(Tenant tenant, book_.CreateTenant(name));
  changed_({.what = "tenant-created", .by = caller, .tenant = tenant.name});
  return tenant;
}

absl::StatusOr<IdentityAdmin::Made> IdentityAdmin::CreateToken(const Identity& caller,
                                                               const std::string& tenant,
                                                               const std::string& principal,
                                                               RoleSet roles,
                                                               std::chrono::seconds lifetime) {
  MNEMO_ASSIGN_OR_RETURN(const Tenant of, TenantFor(caller, tenant));
  if (!RolesWithin(caller).Contains(roles)) {
    return absl::PermissionDeniedError("roles has operator or metrics; that needs operator");
  }
  MNEMO_ASSIGN_OR_RETURN(const WallTime end, EndOf(lifetime));
  Made made{.token = {}, .expires = end};
  MNEMO_ASSIGN_OR_RETURN(made.token, book_.CreateToken(of.id, principal, roles, end));
  changed_({.what = "token-created",
            .by = caller,
            .tenant = of.name,
            .principal = principal,
            .token = made.token.id});
  return made;
}

absl::StatusOr<IdentityAdmin::Made> IdentityAdmin::RotateToken(const Identity& caller,
                                                               const std::string& tenant,
                                                               const std::string& principal,
                                                               std::chrono::seconds lifetime) {
  MNEMO_ASSIGN_OR_RETURN(const Tenant of, TenantFor(caller, tenant));
  MNEMO_ASSIGN_OR_RETURN(const WallTime end, EndOf(lifetime));
  Made made{.token = {}, .expires = end};
  MNEMO_ASSIGN_OR_RETURN(made.token, book_.RotateToken(of.id, principal, end, RolesWithin(caller)));
  changed_({.what = "token-rotated",
            .by = caller,
            .tenant = of.name,
            .principal = principal,
            .token = made.token.id});
  return made;
}

absl::Status IdentityAdmin::RevokeToken(const Identity& caller, const std::string& tenant,
                                        const std::string& principal, uint64_t token) {
  MNEMO_ASSIGN_OR_RETURN(const Tenant of, TenantFor(caller, tenant));
  MNEMO_RETURN_IF_ERROR(book_.RevokeToken(of.id, principal, token, RolesWithin(caller)));
  changed_({.what = "token-revoked",
            .by = caller,
            .tenant = of.name,
            .principal = principal,
            .token = token});
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Principal>> IdentityAdmin::ListPrincipals(
    const Identity& caller, const std::string& tenant) const {
  MNEMO_ASSIGN_OR_RETURN(const Tenant of, TenantFor(caller, tenant));
  return book_.ListPrincipals(of.id);
}

}  // namespace mnemo
