#include "server/config/identity_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kHash[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

absl::StatusOr<IdentityFile> Parse(const std::string& text) {
  return ParseIdentityFile(text, "identity.yaml");
}

TEST(IdentityFileTest, ReadsEveryField) {
  const auto file = Parse(std::string("principals:\n"
                                      "  - tenant: acme\n"
                                      "    name: engine-1\n"
                                      "    roles: [reader, writer]\n"
                                      "    token_sha256: [") +
                          kHash +
                          "]\n"
                          "    certificates: ['uri:spiffe://acme/engine', 'cn:engine']\n"
                          "  - {tenant: local, name: ops, roles: [operator], certificates: "
                          "['dns:ops.acme']}\n");
  ASSERT_OK(file);
  ASSERT_EQ(file->size(), 2u);
  const FilePrincipal& first = (*file)[0];
  EXPECT_EQ(first.tenant, "acme");
  EXPECT_EQ(first.principal.name, "engine-1");
  EXPECT_EQ(first.principal.roles, (RoleSet{Role::kReader, Role::kWriter}));
  ASSERT_EQ(first.principal.tokens.size(), 1u);
  EXPECT_EQ(first.principal.tokens[0].hash[0], 0x00);
  EXPECT_EQ(first.principal.tokens[0].hash[31], 0xff);
  EXPECT_EQ(first.principal.tokens[0].expires, kNever);
  EXPECT_THAT(first.principal.certificates, ElementsAre("uri:spiffe://acme/engine", "cn:engine"));
  EXPECT_EQ((*file)[1].principal.roles, RoleSet{Role::kOperator});
}

TEST(IdentityFileTest, AnEmptyFileNamesNobody) {
  for (const char* text : {"", "# nobody\n", "principals:\n", "principals: []\n"}) {
    const auto file = Parse(text);
    ASSERT_OK(file);
    EXPECT_THAT(*file, IsEmpty()) << text;
  }
}

TEST(IdentityFileTest, UidsLeadToAPrincipal) {
  const auto file = Parse("principals: [{tenant: a, name: b, roles: [reader], uids: [0, 1000]}]");
  ASSERT_OK(file);
  ASSERT_EQ(file->size(), 1u);
  EXPECT_THAT((*file)[0].principal.uids, ::testing::ElementsAre(0, 1000));
}

TEST(IdentityFileTest, WhatIsWrongIsNamedWithItsLine) {
  const std::string good =
      std::string("tenant: a, name: b, roles: [reader], token_sha256: [") + kHash + "]";
  const std::pair<std::string, std::string> cases[] = {
      {"principals: [1", "not YAML"},
      {"- a", "not a mapping"},
      {"principal: []", "unknown key; allowed: principals"},
      {"principals: x", "not a list"},
      {"principals:\n  - x", "identity.yaml:2: not a mapping"},
      {"principals:\n  - {" + good + ", role: x}", "identity.yaml:2: unknown key"},
      {"principals: [{name: b, roles: [reader], certificates: ['cn:a']}]", "tenant is missing"},
      {"principals: [{tenant: [a], name: b, certificates: ['cn:a']}]", "tenant is not a word"},
      {"principals: [{tenant: a, name: b, roles: [king], certificates: ['cn:a']}]",
       "it must be reader, writer, tenant-admin, operator or metrics"},
      {"principals: [{tenant: a, name: b, roles: reader, certificates: ['cn:a']}]",
       "roles is not a list"},
      {"principals: [{tenant: a, name: b, roles: [reader]}]", "is nobody"},
      {"principals: [{tenant: a, name: b, roles: [reader], certificates: ['engine']}]",
       "uri:NAME, dns:NAME or cn:NAME"},
      {"principals: [{tenant: a, name: b, roles: [reader], certificates: ['cn:']}]",
       "uri:NAME, dns:NAME or cn:NAME"},
      {std::string("principals: [{tenant: a, name: b, token_sha256: [") + kHash + "," + kHash +
           "," + kHash + "]}]",
       "token_sha256 has 3 entries; at most 2"},
      {"principals: [{tenant: a, name: b, roles: [reader], uids: [root]}]", "uids is not a number"},
      {"principals: [{tenant: a, name: b, roles: [reader], uids: [4294967295]}]",
       "uids is not a number"},
      {"principals:\n  - tenant: a\n    tenant: b\n    name: c\n", "there twice"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_THAT(Parse(text), StatusIs(absl::StatusCode::kInvalidArgument,
                                      AllOf(HasSubstr("identity.yaml:"), HasSubstr(message))))
        << text;
  }
}

// A token that somebody put where its hash belongs must not reach the log.
TEST(IdentityFileTest, MessagesNeverHoldASecret) {
  for (const char* text : {"principals: [{tenant: a, name: b, token_sha256: [mnemo_topsecret]}]",
                           "principals: [{tenant: a, name: b, mnemo_topsecret: x}]",
                           "principals: [{tenant: a, name: b, certificates: [mnemo_topsecret]}]"}) {
    EXPECT_THAT(Parse(text),
                StatusIs(absl::StatusCode::kInvalidArgument, Not(HasSubstr("topsecret"))))
        << text;
  }
}

}  // namespace
}  // namespace mnemo
