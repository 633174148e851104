#include "server/identity/identity.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

TEST(RoleTest, EveryRoleHasANameThatIsReadBack) {
  for (size_t i = 0; i < kRoleCount; ++i) {
    const Role role = static_cast<Role>(i);
    const absl::StatusOr<Role> parsed = ParseRole(RoleName(role));
    ASSERT_OK(parsed);
    EXPECT_EQ(*parsed, role);
  }
  EXPECT_THAT(ParseRole("root").status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("role is 'root'; it must be reader, writer")));
}

TEST(RoleSetTest, HoldsWhatWasPutIn) {
  const RoleSet set = {Role::kReader, Role::kOperator};
  EXPECT_TRUE(set.Has(Role::kReader));
  EXPECT_FALSE(set.Has(Role::kWriter));
  EXPECT_EQ(set.ToString(), "reader, operator");
  EXPECT_TRUE(set.Intersects({Role::kOperator, Role::kMetrics}));
  EXPECT_FALSE(set.Intersects({Role::kWriter, Role::kMetrics}));
  EXPECT_TRUE(RoleSet::All().Contains(set));
  EXPECT_FALSE(set.Contains(RoleSet::All()));
  EXPECT_TRUE(RoleSet().empty());
  // Bits that no role has are dropped.
  EXPECT_EQ(RoleSet::FromBits(0xff), RoleSet::All());
}

TEST(CheckRolesTest, NamesWhatWouldDo) {
  const Identity reader{.principal = "engine", .roles = {Role::kReader}};
  EXPECT_OK(CheckRoles(reader, {Role::kReader, Role::kWriter}));
  EXPECT_THAT(CheckRoles(reader, {Role::kWriter, Role::kTenantAdmin}),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("'engine' may not do this: it needs one of the roles writer, "
                                 "tenant-admin")));
}

}  // namespace
}  // namespace mnemo
