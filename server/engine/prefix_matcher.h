// The longest prefix that groups of different kinds agree on: pure, so that
// every rule is tested without a store.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mnemo {

// What one counted group asks of a prefix.
struct GroupRule {
  enum class Need : uint8_t { kAll, kLast };  // every block, or the last `last_blocks`
  Need need = Need::kAll;
  uint32_t last_blocks = 0;  // for kLast: at least 1
};

// present[g][i]: all counted parts of group g of block i are here. All rows are of
// one length. Fills `reach[g]` with how far each group goes alone, and returns the
// largest length that every group supports. O(groups x blocks).
uint32_t LongestPrefix(std::span<const GroupRule> rules,
                       std::span<const std::vector<bool>> present, std::vector<uint32_t>& reach);

// Whether a reader of a prefix of `length` blocks needs block `index` of the group.
bool Needs(const GroupRule& rule, uint32_t index, uint32_t length);

}  // namespace mnemo
