// Tenants, principals and tokens; proto/mnemo/v1/auth.proto says what each field
// means.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace mnemo::client {

// Numbered as in the contract.
enum class Role : uint8_t {
  kReader = 1,
  kWriter = 2,
  kTenantAdmin = 3,
  kOperator = 4,
  kMetrics = 5,
};

struct Tenant {
  std::string name;
  uint64_t id = 0;
  int64_t created_unix_us = 0;
};

struct TokenInfo {
  std::string id;
  int64_t created_unix_us = 0;
  int64_t expires_unix_us = 0;  // 0: never
};

// A token that was made. `token` is shown once; the daemon keeps its hash.
struct NewToken {
  TokenInfo info;
  std::string token;
};

struct Principal {
  std::string name;
  std::vector<Role> roles;  // one that this version does not know keeps its number
  std::vector<TokenInfo> tokens;
  int64_t created_unix_us = 0;
  bool from_file = false;
  std::vector<std::string> certificates;
};

struct CreateTokenRequest {
  std::string tenant;  // empty: the caller's own
  std::string principal;
  std::vector<Role> roles;
  std::chrono::seconds lifetime{0};  // 0: without end
};

struct RotateTokenRequest {
  std::string tenant;
  std::string principal;
  std::chrono::seconds lifetime{0};
};

struct RevokeTokenRequest {
  std::string tenant;
  std::string principal;
  std::string token_id;  // empty: all, and the principal
};

}  // namespace mnemo::client
