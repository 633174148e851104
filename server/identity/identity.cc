#include "server/identity/identity.h"

#include <fmt/format.h>

#include <array>

namespace mnemo {
namespace {

constexpr std::array<std::string_view, kRoleCount> kNames = {"reader", "writer", "tenant-admin",
                                                             "operator", "metrics"};

constexpr std::array<std::string_view, kAuthOutcomeCount> kOutcomes = {"accepted",
                                                                       "unauthenticated", "denied"};

}  // namespace

std::string_view AuthOutcomeLabel(AuthOutcome outcome) {
  return kOutcomes[static_cast<size_t>(outcome)];
}

std::string_view RoleName(Role role) { return kNames[static_cast<size_t>(role)]; }

absl::StatusOr<Role> ParseRole(std::string_view name) {
  for (size_t i = 0; i < kRoleCount; ++i) {
    if (kNames[i] == name) return static_cast<Role>(i);
  }
  return absl::InvalidArgumentError(fmt::format(
      "role is '{}'; it must be reader, writer, tenant-admin, operator or metrics", name));
}

std::string RoleSet::ToString() const {
  std::string text;
  for (size_t i = 0; i < kRoleCount; ++i) {
    if (!Has(static_cast<Role>(i))) continue;
    if (!text.empty()) text += ", ";
    text += kNames[i];
  }
  return text;
}

absl::Status CheckRoles(const Identity& identity, RoleSet allowed) {
  if (identity.roles.Intersects(allowed)) return absl::OkStatus();
  return absl::PermissionDeniedError(
      fmt::format("principal '{}' may not do this: it needs one of the roles {}",
                  identity.principal, allowed.ToString()));
}

}  // namespace mnemo
