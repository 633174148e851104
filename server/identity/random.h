// Secrets and ids from OpenSSL's generator, and their hashes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace mnemo {

// `size` bytes that nobody can guess. A generator without entropy is a broken
// invariant: nothing may go on with a guessable secret.
std::string RandomBytes(size_t size);
// 64 random bits, never 0, and never below 2^32: small numbers stay for ids that
// are given by hand.
uint64_t RandomIdentifier();

using Sha256Digest = std::array<uint8_t, 32>;
Sha256Digest Sha256(std::string_view bytes);
// In time that does not depend on where they differ.
bool SameDigest(const Sha256Digest& a, const Sha256Digest& b);

std::string ToHex(std::string_view bytes);
// Lower-case hex, exactly `out_size` bytes; false otherwise.
bool FromHex(std::string_view hex, size_t out_size, std::string& out);

}  // namespace mnemo
