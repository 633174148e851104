// Checksums of stored bytes: XXH3 of 64 bits, seeded, and of 128 bits. Guards against decay
// and mix-ups, not against an attacker who can write our disk.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "storage/base/bytes.h"

namespace mnemo {

uint64_t Checksum64(ByteView bytes, uint64_t seed = 0);

// 128-bit digest of a block part's bytes, the identity that answers carry.
struct Digest128 {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Digest128&, const Digest128&) = default;
};
Digest128 DigestOf(ByteView bytes);

// DigestOf bytes that arrive in pieces. Not thread-safe.
class StreamingDigest128 {
 public:
  StreamingDigest128();
  ~StreamingDigest128();
  StreamingDigest128(StreamingDigest128&&) noexcept;
  StreamingDigest128& operator=(StreamingDigest128&&) noexcept;

  void Update(ByteView bytes);
  // Of all bytes so far; more may follow.
  Digest128 Digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Checksum64 over bytes that arrive in pieces. Not thread-safe.
class StreamingChecksum64 {
 public:
  explicit StreamingChecksum64(uint64_t seed = 0);
  ~StreamingChecksum64();
  StreamingChecksum64(StreamingChecksum64&&) noexcept;
  StreamingChecksum64& operator=(StreamingChecksum64&&) noexcept;

  void Update(ByteView bytes);
  // Checksum of all bytes so far; more may follow.
  uint64_t Digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// First 16 bytes of SHA-256, for names that a hostile client may choose (a
// salt): two of them must not be made to collide.
std::array<uint8_t, 16> SecureDigest16(std::string_view bytes);

}  // namespace mnemo
