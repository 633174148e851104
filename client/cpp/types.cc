#include "mnemo/types.h"

#include <xxhash.h>

namespace mnemo::client {

std::vector<std::string_view> ViewsOf(std::span<const std::string> strings) {
  return {strings.begin(), strings.end()};
}

Digest DigestOf(Bytes bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {.high = hash.high64, .low = hash.low64};
}

}  // namespace mnemo::client
