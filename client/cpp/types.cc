#include "mnemo/types.h"

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#if defined(__x86_64__)
// As in storage/base/checksum.cc: the plain functions are built for SSE2.
#include <xxh_x86dispatch.h>
#endif

#include "mnemo/blocks.h"

namespace mnemo::client {

std::vector<std::string_view> ViewsOf(std::span<const std::string> strings) {
  return {strings.begin(), strings.end()};
}

Digest DigestOf(Bytes bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {.high = hash.high64, .low = hash.low64};
}

bool MatchResult::ShouldFetch(double prefill_tokens_per_second) const {
  if (blocks == 0 || !fetch_time) return blocks > 0;
  return fetch_time->count() < static_cast<double>(tokens) / prefill_tokens_per_second;
}

}  // namespace mnemo::client
