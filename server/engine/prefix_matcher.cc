#include "server/engine/prefix_matcher.h"

#include <algorithm>
#include <cstddef>

namespace mnemo {
namespace {

// supported[n]: the group supports a prefix of n blocks.
std::vector<bool> SupportedLengths(const GroupRule& rule, const std::vector<bool>& present) {
  std::vector<bool> supported(present.size() + 1, false);
  supported[0] = true;
  uint32_t run = 0;  // blocks present without a gap, up to this one
  for (uint32_t i = 0; i < present.size(); ++i) {
    run = present[i] ? run + 1 : 0;
    const uint32_t length = i + 1;
    const uint32_t needed =
        rule.need == GroupRule::Need::kAll ? length : std::min(length, rule.last_blocks);
    supported[length] = run >= needed;
  }
  return supported;
}

}  // namespace

uint32_t LongestPrefix(std::span<const GroupRule> rules,
                       std::span<const std::vector<bool>> present, std::vector<uint32_t>& reach) {
  reach.assign(rules.size(), 0);
  std::vector<bool> all;
  for (size_t g = 0; g < rules.size(); ++g) {
    const std::vector<bool> supported = SupportedLengths(rules[g], present[g]);
    for (uint32_t n = 0; n < supported.size(); ++n) {
      if (supported[n]) reach[g] = n;
    }
    if (g == 0) {
      all = supported;
      continue;
    }
    for (size_t n = 0; n < all.size(); ++n) all[n] = all[n] && supported[n];
  }
  const auto last = std::find(all.rbegin(), all.rend(), true);
  return last == all.rend() ? 0 : static_cast<uint32_t>(all.rend() - last - 1);
}

bool Needs(const GroupRule& rule, uint32_t index, uint32_t length) {
  if (index >= length) return false;
  return rule.need == GroupRule::Need::kAll || length - index <= rule.last_blocks;
}

}  // namespace mnemo
