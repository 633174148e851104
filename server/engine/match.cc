#include "server/engine/match.h"

#include <fmt/format.h>

#include <algorithm>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Blocks looked up at once: what lies behind the end of the prefix is looked at
// in vain, but each step takes the shards' locks.
constexpr size_t kStep = 1024;
// The contract promises PENDING marks this far behind the match.
constexpr size_t kPendingHorizon = 256;
// Bounds the memory of one call: 64 bytes a part key and more.
constexpr size_t kMaxPartsPerMatch = size_t{1} << 20;

// Ranks of a group that count, given the caller's list (empty: all).
absl::StatusOr<std::vector<uint32_t>> CountedRanks(std::string_view field,
                                                   const std::vector<uint32_t>& asked,
                                                   uint32_t size) {
  std::vector<uint32_t> ranks;
  if (asked.empty()) {
    for (uint32_t rank = 0; rank < size; ++rank) ranks.push_back(rank);
    return ranks;
  }
  // A group that is not split is stored once, by rank 0, for every rank.
  if (size == 1) return std::vector<uint32_t>{0};
  for (const uint32_t rank : asked) {
    if (rank >= size) {
      return absl::InvalidArgumentError(
          fmt::format("{} has {}; it must be below {}", field, rank, size));
    }
    ranks.push_back(rank);
  }
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

GroupRule RuleOf(const Group& group, uint32_t tokens_per_block) {
  switch (group.kind) {
    case GroupKind::kWindow:
      return {.need = GroupRule::Need::kLast, .last_blocks = WindowBlocks(group, tokens_per_block)};
    case GroupKind::kState:
      return {.need = GroupRule::Need::kLast, .last_blocks = 1};
    default:
      return {.need = GroupRule::Need::kAll};
  }
}

}  // namespace

MatchOperation::MatchOperation(const CallScope& scope, const MatchRequest& request,
                               BlockStore& store, const Reservations& reservations)
    : scope_(scope), request_(request), store_(store), reservations_(reservations) {}

absl::Status MatchOperation::AddGroup(uint32_t index) {
  const Group& group = scope_.spec().groups[index];
  MNEMO_ASSIGN_OR_RETURN(const std::vector<uint32_t> tp_ranks,
                         CountedRanks("tp_ranks", request_.tp_ranks, group.tensor_parallel_size));
  MNEMO_ASSIGN_OR_RETURN(const std::vector<uint32_t> pp_ranks,
                         CountedRanks("pp_ranks", request_.pp_ranks, group.pipeline_size()));
  CountedGroup counted{.index = index,
                       .rule = RuleOf(group, scope_.spec().tokens_per_block),
                       .first_part = parts_.size(),
                       .part_count = tp_ranks.size() * pp_ranks.size()};
  for (const uint32_t tp : tp_ranks) {
    for (const uint32_t pp : pp_ranks) {
      parts_.push_back({.group = static_cast<uint8_t>(index),
                        .tp_rank = static_cast<uint16_t>(tp),
                        .pp_rank = static_cast<uint16_t>(pp)});
    }
  }
  groups_.push_back(counted);
  return absl::OkStatus();
}

absl::Status MatchOperation::ChooseGroups() {
  const std::vector<Group>& groups = scope_.spec().groups;
  std::vector<uint32_t> chosen = request_.groups;
  if (chosen.empty()) {
    for (uint32_t g = 0; g < groups.size(); ++g) {
      if (!groups[g].optional) chosen.push_back(g);
    }
  }
  std::sort(chosen.begin(), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  if (chosen.empty()) {
    return absl::InvalidArgumentError("groups is empty, and every group of the space is optional");
  }
  for (const uint32_t group : chosen) {
    if (group >= groups.size()) {
      return absl::InvalidArgumentError(
          fmt::format("groups has {}; it must be below {}", group, groups.size()));
    }
    MNEMO_RETURN_IF_ERROR(AddGroup(group));
  }
  if (request_.keys.keys.size() * parts_.size() > kMaxPartsPerMatch) {
    return absl::InvalidArgumentError(
        fmt::format("keys times counted parts is {}; it must be at most {}",
                    request_.keys.keys.size() * parts_.size(), kMaxPartsPerMatch));
  }
  return absl::OkStatus();
}

void MatchOperation::LookUpBlocks(size_t begin, size_t end) {
  std::vector<Lookup> found = store_.Find(BlocksOf(scope_, request_.keys, begin, end, parts_));
  if (!reservations_.empty()) {
    for (size_t i = 0; i < found.size(); ++i) {
      if (found[i].presence == Presence::kAbsent &&
          reservations_.HeldByOther(
              KeyOf(begin + i / parts_.size(), i % parts_.size()).Stored().bytes(), 0)) {
        found[i].presence = Presence::kPending;
      }
    }
  }
  if (lookups_.empty()) {
    lookups_ = std::move(found);
  } else {
    lookups_.insert(lookups_.end(), found.begin(), found.end());
  }
}

PartKey MatchOperation::KeyOf(size_t block, size_t part) const {
  const KeysView& keys = request_.keys;
  return PartKeyOf(scope_, keys.keys[block],
                   keys.stretches.empty() ? std::string_view() : keys.stretches[block],
                   parts_[part]);
}

bool MatchOperation::PrefixEnded(size_t examined) const {
  for (const CountedGroup& group : groups_) {
    if (group.rule.need != GroupRule::Need::kAll) continue;
    for (size_t part = 0; part < group.part_count; ++part) {
      // The horizon has been passed when a block that far back was missing.
      for (size_t block = examined - std::min(examined, kStep); block + kPendingHorizon < examined;
           ++block) {
        if (At(block, group.first_part + part).presence != Presence::kPresent) return true;
      }
    }
  }
  return false;
}

void MatchOperation::LookUp() {
  const size_t total = request_.keys.keys.size();
  for (size_t begin = 0; begin < total; begin += kStep) {
    const size_t end = std::min(total, begin + kStep);
    LookUpBlocks(begin, end);
    if (!request_.want_bitmap && PrefixEnded(end)) return;
  }
}

template <typename Visit>
void MatchOperation::ForEachNeeded(uint32_t blocks, const Visit& visit) const {
  for (uint32_t block = 0; block < blocks; ++block) {
    for (const CountedGroup& group : groups_) {
      if (!Needs(group.rule, block, blocks)) continue;
      for (size_t part = 0; part < group.part_count; ++part) visit(block, group.first_part + part);
    }
  }
}

void MatchOperation::TouchPrefix(uint32_t blocks) {
  std::vector<EntryId> entries;
  entries.reserve(blocks * parts_.size());
  ForEachNeeded(blocks,
                [&](size_t block, size_t part) { entries.push_back(At(block, part).entry); });
  store_.Touch(entries);
}

uint64_t MatchOperation::LeasePrefix(uint32_t blocks) {
  std::vector<PartKey> keys;
  keys.reserve(blocks * parts_.size());
  ForEachNeeded(blocks, [&](size_t block, size_t part) { keys.push_back(KeyOf(block, part)); });
  return store_.AcquireLease(keys, std::chrono::milliseconds(request_.lease_ms));
}

void MatchOperation::FillPlaces(MatchAnswer& answer) {
  const uint32_t tokens_per_block = scope_.spec().tokens_per_block;
  for (uint32_t block = 0; block < answer.blocks; ++block) {
    Level farthest = Level::kL1;
    for (const CountedGroup& group : groups_) {
      if (!Needs(group.rule, block, answer.blocks)) continue;
      for (size_t part = 0; part < group.part_count; ++part) {
        const Lookup& lookup = At(block, group.first_part + part);
        farthest = std::max(farthest, lookup.level);
        answer.fetch_bytes += lookup.payload_bytes;
      }
    }
    hit_tokens_[static_cast<size_t>(farthest)] += tokens_per_block;
    if (!answer.runs.empty() && answer.runs.back().level == farthest) {
      ++answer.runs.back().count;
    } else {
      answer.runs.push_back({.first = block, .count = 1, .level = farthest});
    }
  }
}

absl::StatusOr<MatchAnswer> MatchOperation::Run() {
  MNEMO_RETURN_IF_ERROR(ChooseGroups());
  LookUp();
  const size_t examined = lookups_.size() / parts_.size();
  std::vector<GroupRule> rules;
  std::vector<std::vector<bool>> present(groups_.size(), std::vector<bool>(examined));
  MatchAnswer answer;
  if (request_.want_bitmap) answer.present.assign((examined + 7) / 8, '\0');
  for (size_t block = 0; block < examined; ++block) {
    bool whole = true;
    bool pending = false;
    for (size_t g = 0; g < groups_.size(); ++g) {
      bool group_present = true;
      for (size_t part = 0; part < groups_[g].part_count; ++part) {
        const Presence presence = At(block, groups_[g].first_part + part).presence;
        group_present &= presence == Presence::kPresent;
        pending |= presence == Presence::kPending;
      }
      present[g][block] = group_present;
      whole &= group_present;
    }
    if (pending) answer.pending.push_back(static_cast<uint32_t>(block));
    if (whole && request_.want_bitmap) {
      answer.present[block / 8] = static_cast<char>(answer.present[block / 8] | (1 << (block % 8)));
    }
  }
  for (const CountedGroup& group : groups_) rules.push_back(group.rule);
  std::vector<uint32_t> reach;
  answer.blocks = LongestPrefix(rules, present, reach);
  answer.tokens = uint64_t{answer.blocks} * scope_.spec().tokens_per_block;
  for (size_t g = 0; g < groups_.size(); ++g) {
    answer.groups.push_back({.group = groups_[g].index, .blocks = reach[g]});
  }
  FillPlaces(answer);
  if (answer.blocks == 0) return answer;
  if (!request_.peek) TouchPrefix(answer.blocks);
  if (request_.lease_ms != 0) {
    answer.lease = LeasePrefix(answer.blocks);
    if (answer.lease != 0) answer.lease_ms = request_.lease_ms;
  }
  return answer;
}

}  // namespace mnemo
