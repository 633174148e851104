#include "server/identity/random.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include "storage/base/bytes.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";

}  // namespace

std::string RandomBytes(size_t size) {
  std::string bytes(size, '\0');
  MNEMO_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(size)) ==
              1);
  return bytes;
}

uint64_t RandomIdentifier() {
  uint64_t id = 0;
  while (id >> 32 == 0) id = LoadLittle<uint64_t>(RandomBytes(sizeof(id)).data());
  return id;
}

Sha256Digest Sha256(std::string_view bytes) {
  Sha256Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return digest;
}

bool SameDigest(const Sha256Digest& a, const Sha256Digest& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string ToHex(std::string_view bytes) {
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

bool FromHex(std::string_view hex, size_t out_size, std::string& out) {
  if (hex.size() != out_size * 2) return false;
  out.clear();
  for (size_t i = 0; i < hex.size(); i += 2) {
    const size_t high = kDigits.find(hex[i]);
    const size_t low = kDigits.find(hex[i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return false;
    out.push_back(static_cast<char>(high << 4 | low));
  }
  return true;
}

}  // namespace mnemo
