#include "server/engine/context_range_cache.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "server/engine/context_vectors.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/context/embedding.h"

namespace mnemo {
namespace {

// Rows are handed to the set in pieces of this size.
constexpr size_t kPieceBytes = kMiB;
// Of the capacity, what a range that is not known to be used again may take from
// those that are.
constexpr uint64_t kTrialShare = 8;

// What is stored cannot be used, now or later.
bool IsDamage(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsFailedPrecondition(status);
}

}  // namespace

uint32_t SealedRows(const SegmentSnapshot& snapshot) {
  uint32_t rows = 0;
  for (const PlacedSegment& placed : snapshot.segments()) {
    if (placed.segment->kind() == SegmentKind::kFlat) break;
    rows = placed.first_row + placed.segment->rows();
  }
  return rows;
}

absl::Status ContextRangeCache::Load(const ContextRecord& context, uint64_t range,
                                     SegmentSet& set) const {
  // Of one moment, so that a segment that is being replaced is here whole.
  const ContextSegments::View view = segments_.Look(context, range);
  MNEMO_ASSIGN_OR_RETURN(const SegmentRecord record, view.Read());
  if (record.segments.empty()) return absl::OkStatus();
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, reader_.Head(context));
  const auto load =
      [&](const StoredSegment& stored) -> absl::StatusOr<std::unique_ptr<SealedSegment>> {
    MNEMO_ASSIGN_OR_RETURN(const std::string bytes, view.Load(stored));
    MNEMO_ASSIGN_OR_RETURN(auto segment, LoadSegment(AsBytes(bytes), stored.digest, kernels_));
    if (segment->shape() == set.shape() && segment->rows() == stored.rows &&
        range * kRangeTokens + stored.end_row() <= head.next_position) {
      return segment;
    }
    return absl::DataLossError("a segment of other rows than are stored");
  };
  std::vector<std::unique_ptr<SealedSegment>> loaded;
  absl::Status status;
  for (size_t i = 0; i < record.segments.size() && status.ok(); ++i) {
    auto segment = load(record.segments[i]);
    status = segment.status();
    if (segment.ok()) loaded.push_back(*std::move(segment));
  }
  // All that can be had, or nothing, so that whoever asks again reads again.
  if (!status.ok() && !IsDamage(status)) return status;
  for (auto& segment : loaded) MNEMO_RETURN_IF_ERROR(set.Adopt(std::move(segment)));
  return status;
}

absl::Status ContextRangeCache::Fill(const CallContext& call, const ContextRecord& context,
                                     uint64_t range, uint32_t rows, SegmentSet& set) const {
  if (set.Snapshot()->segments().empty()) {
    const absl::Status loaded = Load(context, range, set);
    if (IsDamage(loaded)) {
      on_damage_(context, range);
    } else if (!loaded.ok()) {
      return loaded;
    }
  }
  const uint64_t begin = range * kRangeTokens;
  uint64_t next = begin + set.Snapshot()->rows();
  const uint64_t end = begin + rows;
  if (next >= end) return absl::OkStatus();
  std::string piece;
  absl::Status status;
  const auto flush = [&] {
    status = set.Append(AsBytes(piece));
    piece.clear();
  };
  MNEMO_RETURN_IF_ERROR(
      reader_.ScanChunks(context, next, end, /*rows=*/true, [&](ChunkPiece& chunk) {
        status = CheckGoesOn(call, clock_);
        const uint64_t first = chunk.rows->first_position();
        const uint64_t last = std::min(end, chunk.rows->end_position());
        if (status.ok() && first <= next && next < last) {
          const size_t row_bytes = chunk.rows->row_bytes();
          EncodeRows(
              chunk.rows->type(),
              chunk.rows->rows().subspan((next - first) * row_bytes, (last - next) * row_bytes),
              last - next, context.spec.dimension, context.spec.searched(), piece);
          next = last;
        }
        if (status.ok() && piece.size() >= kPieceBytes) flush();
        return status.ok() && next < end;
      }));
  if (status.ok() && !piece.empty()) flush();
  MNEMO_RETURN_IF_ERROR(status);
  if (next == end) return absl::OkStatus();
  return absl::DataLossError("context '" + context.spec.name + "': no tokens from position " +
                             std::to_string(next));
}

absl::StatusOr<ContextRangeCache::Entry*> ContextRangeCache::FindOrMake(
    const ContextRecord& context, const Key& key) {
  Entry& entry = entries_[key];
  if (entry.set == nullptr) {
    auto set = SegmentSet::Create(ShapeOf(context.spec), kRangeTokens, kernels_);
    if (!set.ok()) {
      entries_.erase(key);
      return set.status();
    }
    entry.set = *std::move(set);
  }
  order_.Use(key);
  return &entry;
}

absl::StatusOr<std::shared_ptr<SegmentSet>> ContextRangeCache::Range(const CallContext& call,
                                                                     const ContextRecord& context,
                                                                     uint64_t range,
                                                                     uint32_t rows) {
  const Key key{context.scope.space, range};
  for (;;) {
    std::shared_ptr<SegmentSet> set;
    {
      MutexLock lock(mutex_);
      MNEMO_ASSIGN_OR_RETURN(Entry * entry, FindOrMake(context, key));
      if (entry->set->Snapshot()->rows() >= rows) return entry->set;
      set = entry->set;
      if (entry->filling) {
        // Whoever fills it signals at the end, also where it failed or where the
        // range did not stay.
        filled_.Wait(mutex_);
        if (set->Snapshot()->rows() >= rows) return set;
        continue;
      }
      entry->filling = true;
    }
    const absl::Status status = Fill(call, context, range, rows, *set);
    MutexLock lock(mutex_);
    const auto entry = entries_.find(key);
    // Forget or Replaced may have taken it away meanwhile.
    if (entry != entries_.end() && entry->second.set == set) {
      entry->second.filling = false;
      CountLocked(entry->second);
    }
    EvictLocked(key);
    filled_.SignalAll();
    MNEMO_RETURN_IF_ERROR(status);
    return set;
  }
}

void ContextRangeCache::CountLocked(Entry& entry) {
  const uint64_t bytes = entry.set->Snapshot()->memory_bytes();
  bytes_ += bytes - entry.bytes;
  entry.bytes = bytes;
}

void ContextRangeCache::EraseLocked(std::map<Key, Entry>::iterator entry) {
  bytes_ -= entry->second.bytes;
  order_.Leave(entry->first);
  entries_.erase(entry);
}

void ContextRangeCache::EvictLocked(const Key& newest) {
  const auto found = entries_.find(newest);
  const bool may_try =
      found != entries_.end() && found->second.bytes <= capacity_bytes_ / kTrialShare;
  while (bytes_ > capacity_bytes_) {
    const auto victim = order_.Victim(newest, may_try, [this](const Key& key) {
      mutex_.AssertHeld();
      return !entries_.at(key).filling;
    });
    if (!victim) break;
    EraseLocked(entries_.find(*victim));
  }
  chunks_.Lend(bytes_);
}

std::vector<uint64_t> ContextRangeCache::InOrder(uint64_t context_id, uint64_t first,
                                                 uint64_t end) const {
  std::vector<uint64_t> ranges(end - std::min(first, end));
  std::iota(ranges.begin(), ranges.end(), first);
  MutexLock lock(mutex_);
  std::stable_partition(ranges.begin(), ranges.end(), [&](uint64_t range) {
    mutex_.AssertHeld();
    const auto entry = entries_.find({context_id, range});
    return entry != entries_.end() && !entry->second.filling;
  });
  return ranges;
}

void ContextRangeCache::Replaced(uint64_t context_id, uint64_t range, const SegmentSet& set) {
  MutexLock lock(mutex_);
  const auto entry = entries_.find({context_id, range});
  if (entry == entries_.end()) return;
  if (entry->second.set.get() == &set) {
    CountLocked(entry->second);
  } else {
    EraseLocked(entry);
    filled_.SignalAll();
  }
  chunks_.Lend(bytes_);
}

void ContextRangeCache::Forget(uint64_t context_id) {
  MutexLock lock(mutex_);
  auto at = entries_.lower_bound({context_id, 0});
  while (at != entries_.end() && at->first.first == context_id) EraseLocked(at++);
  order_.Forget(context_id);
  chunks_.Lend(bytes_);
  filled_.SignalAll();
}

ContextRangeCache::Held ContextRangeCache::held(uint64_t context_id) const {
  MutexLock lock(mutex_);
  Held held;
  auto at = entries_.lower_bound({context_id, 0});
  for (; at != entries_.end() && at->first.first == context_id; ++at) {
    held.segments += static_cast<uint32_t>(at->second.set->Snapshot()->segments().size());
    held.bytes += at->second.bytes;
  }
  return held;
}

std::array<ContextRangeCache::KindFigures, kSegmentKinds> ContextRangeCache::by_kind() const {
  std::array<KindFigures, kSegmentKinds> figures{};
  MutexLock lock(mutex_);
  for (const auto& [key, entry] : entries_) {
    const auto snapshot = entry.set->Snapshot();
    for (const PlacedSegment& placed : snapshot->segments()) {
      KindFigures& kind = figures[Index(placed.segment->kind())];
      ++kind.segments;
      kind.rows += placed.segment->rows();
      kind.bytes += placed.segment->memory_bytes();
    }
  }
  return figures;
}

}  // namespace mnemo
