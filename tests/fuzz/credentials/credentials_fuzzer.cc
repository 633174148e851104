// What callers show and what an identity file says: a token is a token or nothing,
// and whatever else is shown is never taken for nothing.
#include <algorithm>
#include <string>
#include <vector>

#include "server/config/identity_file.h"
#include "server/rpc/credentials.h"
#include "storage/base/bytes.h"
#include "storage/base/status_macros.h"

namespace {

using namespace mnemo;

// Values are parted by zero bytes.
std::vector<std::string_view> Split(std::string_view text) {
  std::vector<std::string_view> values;
  while (true) {
    const size_t end = text.find('\0');
    values.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return values;
    text.remove_prefix(end + 1);
  }
}

void CheckAuthorization(std::string_view text) {
  const std::vector<std::string_view> values = Split(text);
  Credentials credentials;
  ReadAuthorization(values, credentials);
  MNEMO_CHECK(credentials.malformed == credentials.token.empty());
  if (credentials.malformed) return;
  MNEMO_CHECK(values.size() == 1 && values[0].ends_with(credentials.token));
  MNEMO_CHECK(std::all_of(credentials.token.begin(), credentials.token.end(),
                          [](char c) { return c > ' ' && c < 0x7f && c != ',' && c != '"'; }));
}

void CheckIdentityFile(const std::string& text) {
  const auto file = ParseIdentityFile(text, "f");
  if (!file.ok()) {
    MNEMO_CHECK(absl::IsInvalidArgument(file.status()));
    return;
  }
  for (const FilePrincipal& entry : *file) {
    MNEMO_CHECK(entry.principal.tokens.size() <= kMaxLiveTokens);
    MNEMO_CHECK(!entry.principal.tokens.empty() || !entry.principal.certificates.empty() ||
                !entry.principal.uids.empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest = AsText({data + 1, size - 1});
  if (data[0] % 2 == 0) {
    CheckAuthorization(rest);
  } else {
    CheckIdentityFile(std::string(rest));
  }
  return 0;
}
