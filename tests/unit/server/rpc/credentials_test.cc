#include "server/rpc/credentials.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace mnemo {
namespace {

Credentials Read(const std::vector<std::string_view>& values) {
  Credentials credentials;
  ReadAuthorization(values, credentials);
  return credentials;
}

TEST(CredentialsTest, NothingShownIsNotMalformed) {
  const Credentials credentials = Read({});
  EXPECT_FALSE(credentials.malformed);
  EXPECT_EQ(credentials.token, "");
}

TEST(CredentialsTest, TheSchemeComesInAnyCaseAndBeforeAnySpaces) {
  for (const char* value : {"Bearer aZ09-._~+/=", "bearer aZ09-._~+/=", "BEARER   aZ09-._~+/="}) {
    const Credentials credentials = Read({value});
    EXPECT_FALSE(credentials.malformed) << value;
    EXPECT_EQ(credentials.token, "aZ09-._~+/=") << value;
  }
}

// Whoever shows something wrong must not pass for one who shows nothing.
TEST(CredentialsTest, AnythingElseIsMalformedAndNoToken) {
  for (const std::string_view value :
       {"", " ", "Bearer", "Bearer ", "Bearer   ", "Basic abc", "abc", "Bearerabc", "Bearer\tabc",
        "Bearer a b", "Bearer a,b", "Bearer a ", " Bearer abc", "Bearer a\"b", "Beare abc"}) {
    const Credentials credentials = Read({value});
    EXPECT_TRUE(credentials.malformed) << "'" << value << "'";
    EXPECT_EQ(credentials.token, "") << "'" << value << "'";
  }
  EXPECT_TRUE(Read({std::string_view("Bearer a\0b", 10)}).malformed);
}

TEST(CredentialsTest, TwoValuesAreMalformedEvenIfTheyAreTheSame) {
  const Credentials credentials = Read({"Bearer abc", "Bearer abc"});
  EXPECT_TRUE(credentials.malformed);
  EXPECT_EQ(credentials.token, "");
}

}  // namespace
}  // namespace mnemo
