#include "server/credential_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/block_store_fixture.h"
#include "tests/support/certificates.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

class CredentialFilesTest : public ::testing::Test {
 protected:
  CredentialFilesTest() {
    BlockStoreOptions options = SmallStore(dir_ / "data");
    auto store = BlockStore::Open(options, *files_, clock_, [](const PartEvent&) {});
    MNEMO_CHECK(store.ok());
    store_ = *std::move(store);
    auto book = IdentityBook::Load({.required = true}, store_->state(), clock_);
    MNEMO_CHECK(book.ok());
    book_ = *std::move(book);
  }
  ~CredentialFilesTest() override { EXPECT_OK(store_->Close()); }

  void WriteIdentity(const std::string& name, const std::string& token) {
    WriteText(path_, "principals: [{tenant: acme, name: " + name +
                         ", roles: [reader], token_sha256: [" + HashOf(token) + "]}]\n");
  }
  static std::string HashOf(const std::string& token) {
    const Sha256Digest digest = Sha256(token);
    return ToHex({reinterpret_cast<const char*>(digest.data()), digest.size()});
  }
  absl::StatusOr<Identity> Show(const std::string& token) const {
    return book_->Resolve({.token = token});
  }

  TempDir dir_;
  FakeClock clock_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<IdentityBook> book_;
  const std::string path_ = dir_ / "identity.yaml";
};

TEST_F(CredentialFilesTest, WithoutAFileThereIsNothingToRead) {
  CredentialFiles files("", *files_, *book_);
  EXPECT_OK(files.Reload());
  EXPECT_EQ(files.generation(), 0u);
}

TEST_F(CredentialFilesTest, AChangedFileReplacesTheOneBefore) {
  CredentialFiles files(path_, *files_, *book_);
  WriteIdentity("one", "t1");
  ASSERT_OK(files.Reload());
  EXPECT_EQ(files.generation(), 1u);
  const auto identity = Show("t1");
  ASSERT_OK(identity);
  EXPECT_EQ(identity->principal, "one");
  ASSERT_OK(files.Reload());
  EXPECT_EQ(files.generation(), 1u) << "nothing changed";
  WriteIdentity("two", "t2");
  ASSERT_OK(files.Reload());
  EXPECT_EQ(files.generation(), 2u);
  EXPECT_OK(Show("t2"));
  EXPECT_THAT(Show("t1"), StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(CredentialFilesTest, ABadOrVanishedFileLeavesWhatWasInForce) {
  CredentialFiles files(path_, *files_, *book_);
  EXPECT_THAT(files.Reload(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("identity.yaml")));
  WriteIdentity("one", "t1");
  ASSERT_OK(files.Reload());
  WriteText(path_, "principals: [{");
  EXPECT_THAT(files.Reload(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(files.last(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_OK(Show("t1"));
  std::filesystem::remove(path_);
  EXPECT_THAT(files.Reload(), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(Show("t1"));
  WriteIdentity("one", "t1");
  EXPECT_OK(files.Reload());
  EXPECT_OK(files.last());
  EXPECT_EQ(files.generation(), 1u) << "what is in force came back";
}

TEST_F(CredentialFilesTest, EachFileIsReadAlsoWhenAnotherIsBad) {
  const TestAuthority authority;
  const TlsFiles names{.certificate = dir_ / "node.pem",
                       .key = dir_ / "node.key",
                       .client_ca = "",
                       .clients = ClientCertificates::kOff};
  const auto write = [&](const TestCertificate& certificate) {
    WriteText(names.certificate, certificate.certificate);
    WriteText(names.key, certificate.key);
  };
  write(authority.IssueServer("first"));
  SystemClock system;  // as certificates are made by it
  const auto tls = TlsMaterial::Load(names, *files_, system);
  ASSERT_OK(tls);
  CredentialFiles files(path_, *files_, *book_, tls->get());
  WriteIdentity("one", "t1");
  ASSERT_OK(files.Reload());
  EXPECT_EQ(files.generation(), 1u);
  write(authority.IssueServer("second"));
  WriteText(path_, "principals: [{");
  EXPECT_THAT(files.Reload(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("identity")));
  EXPECT_EQ((*tls)->generation(), 2u);
  EXPECT_EQ(files.generation(), 2u);
  std::filesystem::remove(names.key);
  WriteIdentity("two", "t2");
  EXPECT_THAT(files.Reload(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("node.key")));
  EXPECT_OK(Show("t2"));
}

}  // namespace
}  // namespace mnemo
