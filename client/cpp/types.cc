#include "mnemo/types.h"

#include "mnemo/blocks.h"
#include "storage/base/checksum.h"

namespace mnemo::client {

std::vector<std::string_view> ViewsOf(std::span<const std::string> strings) {
  return {strings.begin(), strings.end()};
}

Digest DigestOf(Bytes bytes) {
  const Digest128 digest = mnemo::DigestOf(bytes);
  return {.high = digest.high, .low = digest.low};
}

bool MatchResult::ShouldFetch(double prefill_tokens_per_second) const {
  if (blocks == 0 || !fetch_time) return blocks > 0;
  return fetch_time->count() < static_cast<double>(tokens) / prefill_tokens_per_second;
}

}  // namespace mnemo::client
