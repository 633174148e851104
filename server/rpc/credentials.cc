#include "server/rpc/credentials.h"

#include <grpc/grpc_security_constants.h>

#include <algorithm>
#include <array>
#include <utility>

namespace mnemo {
namespace {

constexpr char kAuthorization[] = "authorization";
constexpr std::string_view kScheme = "bearer";

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool IsTokenByte(char c) {
  return (c >= '0' && c <= '9') || (Lower(c) >= 'a' && Lower(c) <= 'z') ||
         std::string_view("-._~+/=").find(c) != std::string_view::npos;
}

// "Bearer TOKEN" to TOKEN; empty: it is not that.
std::string_view BearerToken(std::string_view value) {
  const bool is_bearer =
      value.size() > kScheme.size() &&
      std::equal(kScheme.begin(), kScheme.end(), value.begin(),
                 [](char expected, char given) { return expected == Lower(given); }) &&
      value[kScheme.size()] == ' ';
  if (!is_bearer) return {};
  const size_t begin = value.find_first_not_of(' ', kScheme.size());
  if (begin == std::string_view::npos) return {};
  const std::string_view token = value.substr(begin);
  return std::all_of(token.begin(), token.end(), IsTokenByte) ? token : std::string_view();
}

std::string_view View(grpc::string_ref text) { return {text.data(), text.size()}; }

}  // namespace

void ReadAuthorization(std::span<const std::string_view> values, Credentials& credentials) {
  if (values.empty()) return;
  credentials.token = values.size() == 1 ? BearerToken(values[0]) : std::string_view();
  credentials.malformed = credentials.token.empty();
}

ShownCredentials::ShownCredentials(const grpc::CallbackServerContext& context) {
  const auto [begin, end] = context.client_metadata().equal_range(kAuthorization);
  std::vector<std::string_view> values;
  for (auto value = begin; value != end; ++value) values.push_back(View(value->second));
  ReadAuthorization(values, credentials_);

  const std::shared_ptr<const grpc::AuthContext> connection = context.auth_context();
  if (connection == nullptr || !connection->IsPeerAuthenticated()) return;
  // In the order, and with the words, of CertificateNames.
  constexpr std::array<std::pair<const char*, std::string_view>, 3> kKinds = {
      {{GRPC_PEER_URI_PROPERTY_NAME, "uri:"},
       {GRPC_PEER_DNS_PROPERTY_NAME, "dns:"},
       {GRPC_X509_CN_PROPERTY_NAME, "cn:"}}};
  for (const auto& [property, kind] : kKinds) {
    for (const grpc::string_ref& name : connection->FindPropertyValues(property)) {
      certificate_names_.push_back(std::string(kind) + std::string(View(name)));
    }
  }
  credentials_.certificate_names = certificate_names_;
}

}  // namespace mnemo
