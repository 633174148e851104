// From credentials to an identity, for each call on each plane.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/identity/identity.h"
#include "storage/base/clock.h"

namespace mnemo {

// What a call shows. Views, valid while it is resolved.
struct Credentials {
  // The token of "authorization: Bearer TOKEN"; empty: none was shown.
  std::string_view token;
  // Whether something was shown that is no single bearer token.
  bool malformed = false;
  // Of the client's certificate, if it showed one on this connection;
  // CertificateNames has their form.
  std::span<const std::string> certificate_names;
};

// Thread-safe.
class Authenticator {
 public:
  virtual ~Authenticator() = default;

  // A token decides who it is; without one, the certificate does, if its name
  // belongs to a principal; without either, it is the local tenant's "local",
  // unless auth.required. Errors: kUnauthenticated (nothing shown although it is
  // required; a token that is malformed, or has expired; one that is unknown or
  // revoked, which are the same; a certificate and a token of different tenants).
  virtual absl::StatusOr<Identity> Resolve(const Credentials& credentials) const = 0;

  // Of a process of this host, by SO_PEERCRED. Errors: kUnauthenticated (no
  // principal has this uid, and auth.required).
  virtual absl::StatusOr<Identity> ResolveUid(uid_t uid) const = 0;

  // Of a stream that redeemed a ticket for `identity`: is what it showed besides
  // compatible with that? Errors: kUnauthenticated (its certificate belongs to
  // another tenant, or the identity is no longer good).
  virtual absl::Status CheckStream(const Identity& identity,
                                   std::span<const std::string> certificate_names) const = 0;

  // A token that stands for `identity` for auth.session_ttl, on every plane and
  // for this process's life only. Errors: kResourceExhausted (too many).
  struct SessionToken {
    std::string token;
    Nanos lifetime{0};
  };
  virtual absl::StatusOr<SessionToken> IssueSession(const Identity& identity) = 0;

  // Whether the identity would still be resolved to: its credential is neither
  // revoked nor expired, its principal still there with all of these roles. What
  // holds an identity for longer than a call (a stream, a watch) asks before it
  // tells anything more. O(1). Errors: kUnauthenticated.
  virtual absl::Status Recheck(const Identity& identity) const = 0;
};

}  // namespace mnemo
