// TLS for a gRPC listener, with what the files hold now.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "server/identity/tls_material.h"

namespace mnemo {

// Credentials whose every handshake takes the newest generation of `material`,
// certificate, key and CA together; connections that are open stay. `material`
// outlives them, and they outlive the server, which asks them at each handshake. For
// one listening port only: what was fetched is kept at the port.
std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(const TlsMaterial& material);

}  // namespace mnemo
