#include "server/identity/identity_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tier_fixture.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A book over a real instance of class sync, which a test can open again.
class IdentityBookTest : public ::testing::Test {
 protected:
  IdentityBookTest() { Open({}); }

  void Open(const IdentityOptions& options) {
    book_.reset();
    instance_.reset();
    OpenReport report;
    auto instance = Instance::Open(SmallInstance(dir_ / "sync", Durability::kSync), *files_, clock_,
                                   *resources_, &report);
    ASSERT_OK(instance);
    instance_ = *std::move(instance);
    auto book = IdentityBook::Load(options, instance_->store(), clock_);
    ASSERT_OK(book);
    book_ = *std::move(book);
  }
  absl::StatusOr<Identity> Show(std::string_view token,
                                const std::vector<std::string>& certificate = {}) const {
    return book_->Resolve({.token = token, .certificate_names = certificate});
  }
  uint64_t NewTenant(const std::string& name) {
    const auto tenant = book_->CreateTenant(name);
    EXPECT_OK(tenant);
    return tenant->id;
  }
  std::string NewTokenOf(uint64_t tenant, const std::string& name, RoleSet roles = {Role::kReader},
                         WallTime expires = kNever) {
    const auto token = book_->CreateToken(tenant, name, roles, expires);
    EXPECT_OK(token);
    return token->text;
  }
  static FilePrincipal OfFile(const std::string& tenant, const std::string& name,
                              const std::string& certificate) {
    Principal principal{.name = name, .roles = {Role::kWriter}, .certificates = {certificate}};
    return {tenant, principal};
  }

  TempDir dir_;
  FakeClock clock_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  std::unique_ptr<TierResources> resources_ = MakeTestResources();
  std::unique_ptr<Instance> instance_;
  std::unique_ptr<IdentityBook> book_;
};

TEST_F(IdentityBookTest, WithoutAnySetUpEverybodyIsTheLocalTenant) {
  ASSERT_OK_AND_ASSIGN(const Identity identity, Show(""));
  EXPECT_EQ(identity.tenant, kLocalTenant);
  EXPECT_EQ(identity.roles, RoleSet::All());
  EXPECT_OK(book_->Recheck(identity));
}

TEST_F(IdentityBookTest, WhereCredentialsAreRequiredNoneIsUnauthenticated) {
  Open({.required = true});
  EXPECT_THAT(Show(""), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("no credential")));
  EXPECT_THAT(Show("", {"cn:x"}),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("belongs to no principal")));
  EXPECT_THAT(book_->ResolveUid(7), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("7")));
  EXPECT_THAT(book_->Recheck({}), StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(IdentityBookTest, ATokenLeadsToItsPrincipalAlsoAfterARestart) {
  const uint64_t acme = NewTenant("acme");
  const std::string token = NewTokenOf(acme, "engine", {Role::kReader, Role::kWriter});
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const Identity identity, Show(token));
    EXPECT_EQ(identity.tenant, acme);
    EXPECT_EQ(identity.principal, "engine");
    EXPECT_EQ(identity.roles, (RoleSet{Role::kReader, Role::kWriter}));
    EXPECT_EQ(book_->TenantByName("acme")->id, acme);
    Open({});
  }
}

TEST_F(IdentityBookTest, TheTokenItselfIsNowhereOnDisk) {
  const std::string token = NewTokenOf(NewTenant("acme"), "engine");
  const std::string secret = token.substr(token.rfind('_') + 1);
  ASSERT_OK(instance_->store().Scan("", "", [&](const StoredKey& key, std::string_view value) {
    EXPECT_THAT(std::string(value), Not(HasSubstr(secret)));
    EXPECT_THAT(key.bytes(), Not(HasSubstr(secret)));
    return true;
  }));
}

TEST_F(IdentityBookTest, BadTokensHaveEachTheirMessage) {
  const uint64_t acme = NewTenant("acme");
  const std::string token =
      NewTokenOf(acme, "short-lived", {Role::kReader}, clock_.Wall() + std::chrono::seconds(10));
  const auto refused = [](std::string_view why) {
    return StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr(std::string(why)));
  };
  EXPECT_THAT(Show("mnemo_guess"), refused("not known, or was revoked"));
  EXPECT_THAT(Show(std::string(kMaxTokenBytes + 1, 'x')), refused("not a single"));
  EXPECT_THAT(book_->Resolve({.malformed = true}), refused("not a single"));
  EXPECT_THAT(Show("").status(), IsOk());
  ASSERT_OK_AND_ASSIGN(const Identity identity, Show(token));
  clock_.Advance(std::chrono::seconds(10));
  EXPECT_THAT(Show(token), refused("has expired"));
  EXPECT_THAT(book_->Recheck(identity), refused("has expired"));
}

TEST_F(IdentityBookTest, TwoTokensLiveThroughARotationAndTheThirdEndsTheFirst) {
  const uint64_t acme = NewTenant("acme");
  const std::string first = NewTokenOf(acme, "engine");
  ASSERT_OK_AND_ASSIGN(const NewToken second, book_->RotateToken(acme, "engine"));
  EXPECT_OK(Show(first));
  EXPECT_OK(Show(second.text));
  ASSERT_OK_AND_ASSIGN(const NewToken third, book_->RotateToken(acme, "engine"));
  EXPECT_THAT(Show(first), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_OK(Show(second.text));
  EXPECT_OK(Show(third.text));
}

TEST_F(IdentityBookTest, WhatIsRevokedEndsAtOnceAndForGood) {
  const uint64_t acme = NewTenant("acme");
  const std::string first = NewTokenOf(acme, "engine");
  ASSERT_OK_AND_ASSIGN(const NewToken second, book_->RotateToken(acme, "engine"));
  ASSERT_OK_AND_ASSIGN(const Identity identity, Show(second.text));
  EXPECT_OK(book_->RevokeToken(acme, "engine", second.id));
  EXPECT_THAT(Show(second.text),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("not known, or was revoked")));
  EXPECT_THAT(book_->Recheck(identity), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_OK(Show(first));
  EXPECT_THAT(book_->RevokeToken(acme, "engine", second.id), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(book_->RevokeToken(acme, "engine", 0));
  EXPECT_THAT(Show(first), StatusIs(absl::StatusCode::kUnauthenticated));
  Open({});
  EXPECT_THAT(Show(first), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(book_->PrincipalOf(acme, "engine"), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(IdentityBookTest, ACertificateAndATokenMustBeOfOneTenant) {
  const uint64_t acme = NewTenant("acme");
  const uint64_t other = NewTenant("other");
  ASSERT_OK(book_->ApplyFile({OfFile("acme", "node", "uri:spiffe://acme/node")}));
  const std::vector<std::string> shown = {"uri:spiffe://acme/node", "cn:node"};
  ASSERT_OK_AND_ASSIGN(const Identity identity, Show("", shown));
  EXPECT_EQ(identity.tenant, acme);
  EXPECT_EQ(identity.principal, "node");
  // The token says who it is, where both agree.
  EXPECT_EQ(Show(NewTokenOf(acme, "engine"), shown)->principal, "engine");
  EXPECT_THAT(Show(NewTokenOf(other, "engine"), shown),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("of different tenants")));
  EXPECT_OK(book_->CheckStream({.tenant = acme,
                                .principal = "node",
                                .roles = {Role::kWriter},
                                .credential = identity.credential},
                               shown));
  EXPECT_THAT(book_->CheckStream({.tenant = other}, shown),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("of different tenants")));
}

TEST_F(IdentityBookTest, AFileTakesThePlaceOfTheOneBeforeWholeOrNotAtAll) {
  ASSERT_OK(book_->ApplyFile({OfFile("acme", "a", "cn:a"), OfFile("other", "b", "cn:b")}));
  const uint64_t acme = book_->TenantByName("acme")->id;
  EXPECT_NE(acme, book_->TenantByName("other")->id);
  NewTokenOf(acme, "stored");
  EXPECT_THAT(book_->ApplyFile({OfFile("acme", "c", "cn:x"), OfFile("acme", "d", "cn:x")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("certificates")));
  EXPECT_THAT(book_->ApplyFile({OfFile("acme", "c", "cn:x"), OfFile("acme", "c", "cn:y")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("twice")));
  EXPECT_THAT(book_->ApplyFile({OfFile("acme", "stored", "cn:x")}),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(Show("", {"cn:a"})->principal, "a");
  ASSERT_OK(book_->ApplyFile({OfFile("acme", "c", "cn:c")}));
  EXPECT_EQ(Show("", {"cn:c"})->principal, "c");
  EXPECT_EQ(Show("", {"cn:a"})->principal, "local");
  EXPECT_EQ(book_->ListPrincipals(acme).size(), 2u);
  // Tenants stay, with the id that they had.
  Open({});
  EXPECT_EQ(book_->TenantByName("acme")->id, acme);
  EXPECT_EQ(book_->ListPrincipals(acme).size(), 1u);
}

TEST_F(IdentityBookTest, WhatAFileSaysIsChangedOnlyThere) {
  ASSERT_OK(book_->ApplyFile({OfFile("acme", "a", "cn:a")}));
  const uint64_t acme = book_->TenantByName("acme")->id;
  EXPECT_THAT(book_->RotateToken(acme, "a"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(book_->RevokeToken(acme, "a", 0), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(book_->CreateToken(acme, "a", {Role::kReader}),
              StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_F(IdentityBookTest, ASessionEndsByTimeAndWithTheCredentialBehindIt) {
  FilePrincipal worker = OfFile("acme", "worker", "cn:worker");
  worker.principal.uids = {1000};
  ASSERT_OK(book_->ApplyFile({worker}));
  ASSERT_OK_AND_ASSIGN(const Identity identity, book_->ResolveUid(1000));
  EXPECT_EQ(identity.principal, "worker");
  ASSERT_OK_AND_ASSIGN(const auto first, book_->IssueSession(identity));
  EXPECT_EQ(Show(first.token)->principal, "worker");
  clock_.Advance(first.lifetime);
  EXPECT_THAT(Show(first.token),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("has expired")));
  ASSERT_OK_AND_ASSIGN(const auto second, book_->IssueSession(identity));
  EXPECT_OK(Show(second.token));
  ASSERT_OK(book_->ApplyFile({}));
  EXPECT_THAT(Show(second.token), StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(IdentityBookTest, ATenantHasSoManySessionsAndNoMore) {
  Open({.max_sessions_of_tenant = 2});
  EXPECT_OK(book_->IssueSession({}));
  EXPECT_OK(book_->IssueSession({}));
  EXPECT_THAT(book_->IssueSession({}), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_OK(book_->IssueSession({.tenant = 99}));
}

TEST_F(IdentityBookTest, NamesAndRolesAreChecked) {
  EXPECT_THAT(book_->CreateTenant("Acme!"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(book_->CreateTenant("local"), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(book_->CreateToken(kLocalTenant, "x", {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("roles is empty")));
  EXPECT_THAT(book_->CreateToken(12345, "x", {Role::kReader}),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(IdentityBookTest, ADamagedRecordIsNotTakenForNone) {
  StoreBatch batch;
  const StoredKey key(0, KeyKind::kTenant, {.tenant = 77}, "");
  batch.Put(key, "damaged");
  batch.Log({.shard = 0, .kind = OperationKind::kPutSpace, .key = key.bytes()});
  ASSERT_OK(instance_->store().Apply(batch, true));
  EXPECT_THAT(IdentityBook::Load({}, instance_->store(), clock_),
              StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace mnemo
