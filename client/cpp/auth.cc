#include "client/cpp/unary.h"
#include "mnemo/client.h"
#include "mnemo/v1/auth.pb.h"
#include "storage/base/status_macros.h"

namespace mnemo::client {
namespace {

using AuthStub = v1::AuthService::StubInterface::async_interface;

template <typename Response, typename Request>
absl::StatusOr<Response> AskAuth(Core& core, const CallOptions& options, Repeat repeat,
                                 UnaryMethod<v1::AuthService, Request, Response> method,
                                 Request request) {
  return CallAndWait<v1::AuthService, Request, Response>(core, ControlCall(core, options, repeat),
                                                         method, std::move(request));
}

Tenant FromAuth(const v1::Tenant& message) {
  return {.name = message.name(), .id = message.id(), .created_unix_us = message.created_unix_us()};
}

TokenInfo FromAuth(const v1::TokenInfo& message) {
  return {.id = message.id(),
          .created_unix_us = message.created_unix_us(),
          .expires_unix_us = message.expires_unix_us()};
}

Principal FromAuth(const v1::Principal& message) {
  Principal principal{
      .name = message.name(),
      .created_unix_us = message.created_unix_us(),
      .from_file = message.from_file(),
      .certificates = {message.certificates().begin(), message.certificates().end()}};
  for (const int role : message.roles()) principal.roles.push_back(static_cast<Role>(role));
  for (const v1::TokenInfo& token : message.tokens()) principal.tokens.push_back(FromAuth(token));
  return principal;
}

}  // namespace

absl::StatusOr<Tenant> Auth::CreateTenant(const std::string& name, const CallOptions& options) {
  v1::CreateTenantRequest request;
  request.set_name(name);
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (AskAuth<v1::CreateTenantResponse, v1::CreateTenantRequest>(
                             core_, options, Repeat::kUnsafe, &AuthStub::CreateTenant, request)));
  return FromAuth(response.tenant());
}

absl::StatusOr<std::vector<Tenant>> Auth::ListTenants(const CallOptions& options) {
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (AskAuth<v1::ListTenantsResponse, v1::ListTenantsRequest>(
                             core_, options, Repeat::kSafe, &AuthStub::ListTenants, {})));
  std::vector<Tenant> tenants;
  for (const v1::Tenant& tenant : response.tenants()) tenants.push_back(FromAuth(tenant));
  return tenants;
}

// A second token for a repeated call would end one that is in use.
absl::StatusOr<NewToken> Auth::CreateToken(const CreateTokenRequest& asked,
                                           const CallOptions& options) {
  v1::CreateTokenRequest request;
  request.set_tenant(asked.tenant);
  request.set_principal(asked.principal);
  for (const Role role : asked.roles) request.add_roles(static_cast<v1::Role>(role));
  request.set_lifetime_seconds(static_cast<uint64_t>(asked.lifetime.count()));
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (AskAuth<v1::CreateTokenResponse, v1::CreateTokenRequest>(
                             core_, options, Repeat::kUnsafe, &AuthStub::CreateToken, request)));
  return NewToken{.info = FromAuth(response.info()), .token = response.token()};
}

absl::StatusOr<NewToken> Auth::RotateToken(const RotateTokenRequest& asked,
                                           const CallOptions& options) {
  v1::RotateTokenRequest request;
  request.set_tenant(asked.tenant);
  request.set_principal(asked.principal);
  request.set_lifetime_seconds(static_cast<uint64_t>(asked.lifetime.count()));
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (AskAuth<v1::RotateTokenResponse, v1::RotateTokenRequest>(
                             core_, options, Repeat::kUnsafe, &AuthStub::RotateToken, request)));
  return NewToken{.info = FromAuth(response.info()), .token = response.token()};
}

absl::Status Auth::RevokeToken(const RevokeTokenRequest& asked, const CallOptions& options) {
  v1::RevokeTokenRequest request;
  request.set_tenant(asked.tenant);
  request.set_principal(asked.principal);
  request.set_token_id(asked.token_id);
  return AskAuth<v1::RevokeTokenResponse, v1::RevokeTokenRequest>(core_, options, Repeat::kUnsafe,
                                                                  &AuthStub::RevokeToken, request)
      .status();
}

absl::StatusOr<std::vector<Principal>> Auth::ListPrincipals(const std::string& tenant,
                                                            const CallOptions& options) {
  v1::ListPrincipalsRequest request;
  request.set_tenant(tenant);
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (AskAuth<v1::ListPrincipalsResponse, v1::ListPrincipalsRequest>(
                             core_, options, Repeat::kSafe, &AuthStub::ListPrincipals, request)));
  std::vector<Principal> principals;
  for (const v1::Principal& principal : response.principals()) {
    principals.push_back(FromAuth(principal));
  }
  return principals;
}

}  // namespace mnemo::client
