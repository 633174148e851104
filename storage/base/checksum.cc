#include "storage/base/checksum.h"

#include <openssl/sha.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#if defined(__x86_64__)
// The same functions over wider registers, where the processor has them: the
// plain ones are built for SSE2. Digests do not differ.
#include <xxh_x86dispatch.h>
#endif

#include <algorithm>

#include "storage/base/status_macros.h"

namespace mnemo {

uint64_t Checksum64(ByteView bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

struct StreamingChecksum64::State {
  XXH3_state_t xxh;
};

// Zeroed: XXH3 0.8 keeps the custom secret that it finds in a state whose seed
// field happens to hold the wanted seed, initialised or not.
StreamingChecksum64::StreamingChecksum64(uint64_t seed) : state_(new State()) {
  MNEMO_CHECK(XXH3_64bits_reset_withSeed(&state_->xxh, seed) == XXH_OK);
}
StreamingChecksum64::~StreamingChecksum64() = default;
StreamingChecksum64::StreamingChecksum64(StreamingChecksum64&&) noexcept = default;
StreamingChecksum64& StreamingChecksum64::operator=(StreamingChecksum64&&) noexcept = default;

void StreamingChecksum64::Update(ByteView bytes) {
  MNEMO_CHECK(XXH3_64bits_update(&state_->xxh, bytes.data(), bytes.size()) == XXH_OK);
}
uint64_t StreamingChecksum64::Digest() const { return XXH3_64bits_digest(&state_->xxh); }

struct StreamingDigest128::State {
  XXH3_state_t xxh;
};

StreamingDigest128::StreamingDigest128() : state_(new State) {
  MNEMO_CHECK(XXH3_128bits_reset(&state_->xxh) == XXH_OK);
}
StreamingDigest128::~StreamingDigest128() = default;
StreamingDigest128::StreamingDigest128(StreamingDigest128&&) noexcept = default;
StreamingDigest128& StreamingDigest128::operator=(StreamingDigest128&&) noexcept = default;

void StreamingDigest128::Update(ByteView bytes) {
  MNEMO_CHECK(XXH3_128bits_update(&state_->xxh, bytes.data(), bytes.size()) == XXH_OK);
}

Digest128 StreamingDigest128::Digest() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->xxh);
  return {hash.low64, hash.high64};
}

Digest128 DigestOf(ByteView bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

std::array<uint8_t, 16> SecureDigest16(std::string_view bytes) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> full;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), full.data());
  std::array<uint8_t, 16> first;
  std::copy_n(full.begin(), first.size(), first.begin());
  return first;
}

}  // namespace mnemo
