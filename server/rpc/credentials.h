// What a gRPC call shows of its caller.
#pragma once

#include <grpcpp/grpcpp.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/identity/authenticator.h"

namespace mnemo {

// Reads the values of the metadata "authorization" into `token` and `malformed`;
// the token is a view of a value. None: nothing was shown. Anything but a single
// "Bearer TOKEN" (the word in any case, one or more spaces, then letters, digits
// and "-._~+/=" as RFC 6750 has them) is malformed, never the local tenant.
void ReadAuthorization(std::span<const std::string_view> values, Credentials& credentials);

// The credentials of a call, from its own metadata and from the certificate of its
// connection, if that has one that was checked; nothing is kept at the connection,
// which other callers' calls share.
class ShownCredentials {
 public:
  // `context` outlives it.
  explicit ShownCredentials(const grpc::CallbackServerContext& context);
  ShownCredentials(const ShownCredentials&) = delete;
  ShownCredentials& operator=(const ShownCredentials&) = delete;

  const Credentials& view() const { return credentials_; }

 private:
  std::vector<std::string> certificate_names_;
  Credentials credentials_;
};

}  // namespace mnemo
