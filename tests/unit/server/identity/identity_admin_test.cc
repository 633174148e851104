#include "server/identity/identity_admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tier_fixture.h"

namespace mnemo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr RoleSet kReader = {Role::kReader};

class IdentityAdminTest : public ::testing::Test {
 protected:
  IdentityAdminTest() {
    OpenReport report;
    auto instance = Instance::Open(SmallInstance(dir_ / "sync", Durability::kSync), *files_, clock_,
                                   *resources_, &report);
    MNEMO_CHECK(instance.ok());
    instance_ = *std::move(instance);
    auto book = IdentityBook::Load({.required = true}, instance_->store(), clock_);
    MNEMO_CHECK(book.ok());
    book_ = *std::move(book);
    admin_ = std::make_unique<IdentityAdmin>(*book_, clock_, [this](const IdentityChange& change) {
      changes_.push_back(std::string(change.what) + " " + std::string(change.tenant) + "/" +
                         std::string(change.principal) + " by " + change.by.principal);
    });
    acme_ = book_->CreateTenant("acme")->id;
    globex_ = book_->CreateTenant("globex")->id;
    operator_ = {.principal = "ops", .roles = {Role::kOperator}};
    tenant_admin_ = {.tenant = acme_, .principal = "boss", .roles = {Role::kTenantAdmin}};
  }

  TempDir dir_;
  FakeClock clock_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  std::unique_ptr<TierResources> resources_ = MakeTestResources();
  std::unique_ptr<Instance> instance_;
  std::unique_ptr<IdentityBook> book_;
  std::unique_ptr<IdentityAdmin> admin_;
  std::vector<std::string> changes_;
  uint64_t acme_ = 0;
  uint64_t globex_ = 0;
  Identity operator_;
  Identity tenant_admin_;
};

TEST_F(IdentityAdminTest, ATenantAdminStaysWithinItsTenant) {
  const auto made = admin_->CreateToken(tenant_admin_, "", "engine", kReader, {});
  ASSERT_OK(made);
  const auto identity = book_->Resolve({.token = made->token.text});
  ASSERT_OK(identity);
  EXPECT_EQ(identity->tenant, acme_);
  EXPECT_OK(admin_->CreateToken(tenant_admin_, "acme", "other", kReader, {}));

  // One that is there and one that is not are refused alike.
  for (const char* tenant : {"globex", "nobody", "local"}) {
    EXPECT_THAT(admin_->CreateToken(tenant_admin_, tenant, "engine", kReader, {}),
                StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("not the caller's own")));
    EXPECT_THAT(admin_->RotateToken(tenant_admin_, tenant, "engine", {}),
                StatusIs(absl::StatusCode::kPermissionDenied));
    EXPECT_THAT(admin_->RevokeToken(tenant_admin_, tenant, "engine", 0),
                StatusIs(absl::StatusCode::kPermissionDenied));
    EXPECT_THAT(admin_->ListPrincipals(tenant_admin_, tenant),
                StatusIs(absl::StatusCode::kPermissionDenied));
  }
  EXPECT_THAT(book_->ListPrincipals(globex_), IsEmpty());
}

TEST_F(IdentityAdminTest, ATenantAdminHandsOutNoMoreThanItMay) {
  for (const Role role : {Role::kOperator, Role::kMetrics}) {
    EXPECT_THAT(admin_->CreateToken(tenant_admin_, "", "up", RoleSet{Role::kReader, role}, {}),
                StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("operator")));
  }
  EXPECT_THAT(book_->ListPrincipals(acme_), IsEmpty());
  // Nor does it come to more by way of who has it.
  const auto above = admin_->CreateToken(operator_, "acme", "above", {Role::kOperator}, {});
  ASSERT_OK(above);
  EXPECT_THAT(admin_->RotateToken(tenant_admin_, "", "above", {}),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("other roles")));
  EXPECT_THAT(admin_->RevokeToken(tenant_admin_, "", "above", 0),
              StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_OK(book_->Resolve({.token = above->token.text}));
  EXPECT_OK(admin_->RotateToken(operator_, "acme", "above", {}));
  EXPECT_OK(admin_->RevokeToken(operator_, "acme", "above", 0));
}

TEST_F(IdentityAdminTest, AnOperatorNamesAnyTenantAndIsToldOfThoseThatAreNot) {
  EXPECT_OK(admin_->CreateToken(operator_, "globex", "engine", kReader, {}));
  EXPECT_OK(admin_->CreateToken(operator_, "", "second", {Role::kOperator}, {}));
  EXPECT_OK(book_->PrincipalOf(kLocalTenant, "second"));
  EXPECT_THAT(admin_->CreateToken(operator_, "nobody", "engine", kReader, {}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no tenant 'nobody'")));
}

TEST_F(IdentityAdminTest, ALifetimeEndsAToken) {
  const auto made =
      admin_->CreateToken(operator_, "acme", "brief", kReader, std::chrono::seconds(10));
  ASSERT_OK(made);
  EXPECT_EQ(made->expires.nanos - made->token.created.nanos, 10'000'000'000);
  clock_.Advance(std::chrono::seconds(9));
  EXPECT_OK(book_->Resolve({.token = made->token.text}));
  clock_.Advance(std::chrono::seconds(2));
  EXPECT_THAT(book_->Resolve({.token = made->token.text}),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("expired")));
  EXPECT_THAT(admin_->RotateToken(operator_, "acme", "brief",
                                  IdentityAdmin::kLongestLifetime + std::chrono::seconds(1)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("lifetime_seconds")));
}

TEST_F(IdentityAdminTest, EveryChangeAndNothingElseIsTold) {
  ASSERT_OK(admin_->CreateTenant(operator_, "new"));
  EXPECT_FALSE(admin_->CreateTenant(operator_, "new").ok());
  ASSERT_OK(admin_->CreateToken(tenant_admin_, "", "engine", kReader, {}));
  EXPECT_FALSE(admin_->CreateToken(tenant_admin_, "", "engine", kReader, {}).ok());
  ASSERT_OK(admin_->RotateToken(tenant_admin_, "", "engine", {}));
  ASSERT_OK(admin_->ListPrincipals(tenant_admin_, ""));
  ASSERT_OK(admin_->RevokeToken(tenant_admin_, "", "engine", 0));
  EXPECT_FALSE(admin_->RevokeToken(tenant_admin_, "", "engine", 0).ok());
  EXPECT_THAT(
      changes_,
      ElementsAre("tenant-created new/ by ops", "token-created acme/engine by boss",
                  "token-rotated acme/engine by boss", "token-revoked acme/engine by boss"));
}

}  // namespace
}  // namespace mnemo
