// Match: which prefix of a chain is here, where it lies, and a lease on it.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/block_engine.h"
#include "server/engine/prefix_matcher.h"
#include "server/engine/request_keys.h"

namespace mnemo {

// One call of Match. Not thread-safe; used once.
class MatchOperation {
 public:
  MatchOperation(const CallScope& scope, const MatchRequest& request, BlockStore& store,
                 const Reservations& reservations);

  absl::StatusOr<MatchAnswer> Run();

  // Of the answer: tokens whose farthest part lies at each level.
  const uint64_t (&hit_tokens() const)[kLevelCount] { return hit_tokens_; }

 private:
  struct CountedGroup {
    uint32_t index = 0;
    GroupRule rule;
    size_t first_part = 0;  // of parts_
    size_t part_count = 0;
  };

  absl::Status ChooseGroups();
  absl::Status AddGroup(uint32_t index);
  // Looks up blocks until the prefix cannot grow any more.
  void LookUp();
  void LookUpBlocks(size_t begin, size_t end);
  bool PrefixEnded(size_t examined) const;
  const Lookup& At(size_t block, size_t part) const {
    return lookups_[block * parts_.size() + part];
  }
  void FillPlaces(MatchAnswer& answer);
  PartKey KeyOf(size_t block, size_t part) const;
  // Calls `visit(block, part)` for what a reader of a prefix fetches, root to leaf.
  template <typename Visit>
  void ForEachNeeded(uint32_t blocks, const Visit& visit) const;
  void TouchPrefix(uint32_t blocks);
  // Answers 0 if there is no lease to be had.
  uint64_t LeasePrefix(uint32_t blocks);

  const CallScope& scope_;
  const MatchRequest& request_;
  BlockStore& store_;
  const Reservations& reservations_;
  std::vector<CountedGroup> groups_;
  std::vector<PartId> parts_;    // of all counted groups
  std::vector<Lookup> lookups_;  // by block, then part
  uint64_t hit_tokens_[kLevelCount] = {};
};

}  // namespace mnemo
