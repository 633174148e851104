#include "server/rpc/auth_service.h"

#include <fmt/format.h>

#include <algorithm>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// The contract's roles are ours, counted from 1.
v1::Role ToProto(Role role) { return static_cast<v1::Role>(static_cast<int>(role) + 1); }

absl::StatusOr<RoleSet> RolesOf(const google::protobuf::RepeatedField<int>& roles) {
  RoleSet set;
  for (const int role : roles) {
    if (role < 1 || role > static_cast<int>(kRoleCount)) {
      return absl::InvalidArgumentError(
          fmt::format("roles has {}; it must be 1 to {}", role, kRoleCount));
    }
    set = set | RoleSet{static_cast<Role>(role - 1)};
  }
  return set;
}

// What does not fit is above every bound, and stays so.
std::chrono::seconds LifetimeOf(uint64_t seconds) {
  const auto beyond = static_cast<uint64_t>(IdentityAdmin::kLongestLifetime.count()) + 1;
  return std::chrono::seconds(std::min(seconds, beyond));
}

void FillTenant(const Tenant& tenant, v1::Tenant* out) {
  out->set_name(tenant.name);
  out->set_id(tenant.id);
  out->set_created_unix_us(tenant.created.nanos / 1000);
}

void FillToken(uint64_t id, WallTime created, WallTime expires, v1::TokenInfo* out) {
  if (id != 0) out->set_id(TokenIdText(id));
  out->set_created_unix_us(created.nanos / 1000);
  if (expires != kNever) out->set_expires_unix_us(expires.nanos / 1000);
}

template <typename Response>
void FillMade(const IdentityAdmin::Made& made, Response* out) {
  FillToken(made.token.id, made.token.created, made.expires, out->mutable_info());
  out->set_token(made.token.text);
}

void FillPrincipal(const Principal& principal, v1::Principal* out) {
  out->set_name(principal.name);
  for (size_t i = 0; i < kRoleCount; ++i) {
    const auto role = static_cast<Role>(i);
    if (principal.roles.Has(role)) out->add_roles(ToProto(role));
  }
  for (const TokenRecord& token : principal.tokens) {
    FillToken(token.id, token.created, token.expires, out->add_tokens());
  }
  out->set_created_unix_us(principal.created.nanos / 1000);
  out->set_from_file(principal.from_file);
  for (const std::string& name : principal.certificates) out->add_certificates(name);
}

}  // namespace

grpc::ServerUnaryReactor* AuthServiceHandler::CreateTenant(grpc::CallbackServerContext* context,
                                                           const v1::CreateTenantRequest* request,
                                                           v1::CreateTenantResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.AuthService/CreateTenant"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(
                                const Tenant tenant,
                                identity_.CreateTenant(call.identity, request->name()));
                            FillTenant(tenant, response->mutable_tenant());
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* AuthServiceHandler::ListTenants(grpc::CallbackServerContext* context,
                                                          const v1::ListTenantsRequest*,
                                                          v1::ListTenantsResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.AuthService/ListTenants"), context,
                          [this, response](const CallContext&) {
                            for (const Tenant& tenant : identity_.ListTenants()) {
                              FillTenant(tenant, response->add_tenants());
                            }
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* AuthServiceHandler::CreateToken(grpc::CallbackServerContext* context,
                                                          const v1::CreateTokenRequest* request,
                                                          v1::CreateTokenResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.AuthService/CreateToken"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        MNEMO_ASSIGN_OR_RETURN(const RoleSet roles, RolesOf(request->roles()));
        MNEMO_ASSIGN_OR_RETURN(
            const IdentityAdmin::Made made,
            identity_.CreateToken(call.identity, request->tenant(), request->principal(), roles,
                                  LifetimeOf(request->lifetime_seconds())));
        FillMade(made, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AuthServiceHandler::RotateToken(grpc::CallbackServerContext* context,
                                                          const v1::RotateTokenRequest* request,
                                                          v1::RotateTokenResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.AuthService/RotateToken"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        MNEMO_ASSIGN_OR_RETURN(
            const IdentityAdmin::Made made,
            identity_.RotateToken(call.identity, request->tenant(), request->principal(),
                                  LifetimeOf(request->lifetime_seconds())));
        FillMade(made, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AuthServiceHandler::RevokeToken(grpc::CallbackServerContext* context,
                                                          const v1::RevokeTokenRequest* request,
                                                          v1::RevokeTokenResponse*) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.AuthService/RevokeToken"), context,
                          [this, request](const CallContext& call) -> absl::Status {
                            uint64_t token = 0;
                            const bool one = !request->token_id().empty();
                            // The id 0 would mean all of them.
                            if (one && (!ParseTokenId(request->token_id(), token) || token == 0)) {
                              return absl::InvalidArgumentError(
                                  "token_id is not 16 lower-case hex digits, other than zero");
                            }
                            return identity_.RevokeToken(call.identity, request->tenant(),
                                                         request->principal(), token);
                          });
}

grpc::ServerUnaryReactor* AuthServiceHandler::ListPrincipals(
    grpc::CallbackServerContext* context, const v1::ListPrincipalsRequest* request,
    v1::ListPrincipalsResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.AuthService/ListPrincipals"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(
                                const auto principals,
                                identity_.ListPrincipals(call.identity, request->tenant()));
                            for (const Principal& principal : principals) {
                              FillPrincipal(principal, response->add_principals());
                            }
                            return absl::OkStatus();
                          });
}

}  // namespace mnemo
