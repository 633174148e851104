#include "server/identity/token.h"

#include <fmt/format.h>

#include "storage/base/bytes.h"

namespace mnemo {
namespace {

constexpr size_t kSecretBytes = 32;

}  // namespace

NewToken MakeToken() {
  NewToken token;
  token.id = RandomIdentifier();
  token.text = fmt::format("mnemo_{}_{}", TokenIdText(token.id), ToHex(RandomBytes(kSecretBytes)));
  token.hash = Sha256(token.text);
  return token;
}

std::string TokenIdText(uint64_t id) { return fmt::format("{:016x}", id); }

bool ParseTokenId(std::string_view text, uint64_t& id) {
  std::string bytes;
  if (!FromHex(text, sizeof(id), bytes)) return false;
  id = LoadBig<uint64_t>(bytes.data());
  return true;
}

}  // namespace mnemo
