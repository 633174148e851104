// Bearer tokens: how they are made, and what is kept of them.
//
//   mnemo_ID_SECRET    ID 16 and SECRET 64 lower-case hex digits
//
// ID is a name for people: lists show it, revoking takes it. SECRET is 256 random
// bits. Kept is the SHA-256 of the whole text, which is also what a call's token
// is looked up by: there is nothing to guess byte by byte, and with that many
// random bits nothing that a slower hash would protect (docs/decisions/0111).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "server/identity/random.h"
#include "storage/base/clock.h"

namespace mnemo {

// Longer texts are refused before they are hashed.
inline constexpr size_t kMaxTokenBytes = 512;

struct NewToken {
  uint64_t id = 0;
  std::string text;  // shown once, kept nowhere
  Sha256Digest hash;
  WallTime created;  // as its record says, once there is one
};
NewToken MakeToken();

// "0123456789abcdef". Reads back what it wrote; false for anything else.
std::string TokenIdText(uint64_t id);
bool ParseTokenId(std::string_view text, uint64_t& id);

}  // namespace mnemo
