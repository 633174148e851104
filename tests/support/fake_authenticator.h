// Identities that a test names, without a book.
#pragma once

#include <map>
#include <string>

#include "server/identity/authenticator.h"

namespace mnemo {

// Without a token it is the local tenant's. Fill it before it is used.
class FakeAuthenticator final : public Authenticator {
 public:
  std::map<std::string, Identity, std::less<>> tokens;

  absl::StatusOr<Identity> Resolve(const Credentials& credentials) const override {
    if (credentials.token.empty() && !credentials.malformed) return Identity{};
    const auto found = tokens.find(credentials.token);
    if (found == tokens.end()) return absl::UnauthenticatedError("not a token of this test");
    return found->second;
  }
  absl::StatusOr<Identity> ResolveUid(uid_t) const override { return Identity{}; }
  absl::Status CheckStream(const Identity&, std::span<const std::string>) const override {
    return absl::OkStatus();
  }
  absl::StatusOr<SessionToken> IssueSession(const Identity&) override {
    return absl::ResourceExhaustedError("no session tokens in this test");
  }
  absl::Status Recheck(const Identity&) const override { return absl::OkStatus(); }
};

}  // namespace mnemo
