#include "server/engine/context_row_cache.h"

#include <algorithm>
#include <string>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

// Rows are handed to the segment in pieces of this size.
constexpr size_t kPieceBytes = kMiB;

}  // namespace

absl::Status ContextRowCache::Fill(const CallContext& call, const ContextRecord& context,
                                   uint64_t range, uint32_t rows, GrowingSegment& segment) const {
  const uint64_t begin = range * kRangeTokens;
  uint64_t next = begin + segment.rows();
  const uint64_t end = begin + rows;
  std::string piece;
  absl::Status status;
  const auto flush = [&] {
    status = segment.Append(AsBytes(piece));
    piece.clear();
  };
  MNEMO_RETURN_IF_ERROR(
      reader_.ScanChunks(context, next, end, /*rows=*/true, [&](ChunkPiece& chunk) {
        status = CheckGoesOn(call, clock_);
        const uint64_t first = chunk.rows->first_position();
        const uint64_t last = std::min(end, chunk.rows->end_position());
        if (status.ok() && first <= next && next < last) {
          const size_t row_bytes = chunk.rows->row_bytes();
          piece += AsText(
              chunk.rows->rows().subspan((next - first) * row_bytes, (last - next) * row_bytes));
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

absl::StatusOr<ContextRowCache::Entry*> ContextRowCache::FindOrMake(const ContextRecord& context,
                                                                    const Key& key) {
  Entry& entry = entries_[key];
  if (entry.segment == nullptr) {
    const VectorShape shape{.dimension = context.spec.dimension,
                            .type = context.spec.stored,
                            .metric = context.spec.metric};
    auto segment = GrowingSegment::Create(shape, kRangeTokens, kernels_);
    if (!segment.ok()) {
      entries_.erase(key);
      return segment.status();
    }
    entry.segment = *std::move(segment);
  }
  by_use_.erase(entry.used);
  entry.used = ++turn_;
  by_use_.emplace(entry.used, key);
  return &entry;
}

absl::StatusOr<std::shared_ptr<const GrowingSegment>> ContextRowCache::Range(
    const CallContext& call, const ContextRecord& context, uint64_t range, uint32_t rows) {
  const Key key{context.scope.space, range};
  for (;;) {
    std::shared_ptr<GrowingSegment> segment;
    {
      MutexLock lock(mutex_);
      MNEMO_ASSIGN_OR_RETURN(Entry * entry, FindOrMake(context, key));
      if (entry->segment->rows() >= rows) return entry->segment;
      if (entry->filling) {
        // Whoever fills it signals at the end, also where it failed.
        filled_.Wait(mutex_);
        continue;
      }
      entry->filling = true;
      segment = entry->segment;
    }
    const absl::Status status = Fill(call, context, range, rows, *segment);
    MutexLock lock(mutex_);
    const auto entry = entries_.find(key);
    // Forget may have taken it away meanwhile.
    if (entry != entries_.end() && entry->second.segment == segment) {
      entry->second.filling = false;
      bytes_ += segment->memory_bytes() - entry->second.bytes;
      entry->second.bytes = segment->memory_bytes();
    }
    EvictLocked();
    filled_.SignalAll();
    MNEMO_RETURN_IF_ERROR(status);
    return segment;
  }
}

void ContextRowCache::EvictLocked() {
  auto oldest = by_use_.begin();
  while (bytes_ > capacity_bytes_ && oldest != by_use_.end()) {
    const auto entry = entries_.find(oldest->second);
    if (entry->second.filling) {
      ++oldest;
      continue;
    }
    bytes_ -= entry->second.bytes;
    entries_.erase(entry);
    oldest = by_use_.erase(oldest);
  }
}

void ContextRowCache::Forget(uint64_t context_id) {
  MutexLock lock(mutex_);
  auto at = entries_.lower_bound({context_id, 0});
  while (at != entries_.end() && at->first.first == context_id) {
    bytes_ -= at->second.bytes;
    by_use_.erase(at->second.used);
    at = entries_.erase(at);
  }
  filled_.SignalAll();
}

ContextRowCache::Held ContextRowCache::held() const {
  MutexLock lock(mutex_);
  return {.segments = static_cast<uint32_t>(entries_.size()), .bytes = bytes_};
}

ContextRowCache::Held ContextRowCache::held(uint64_t context_id) const {
  MutexLock lock(mutex_);
  Held held;
  auto at = entries_.lower_bound({context_id, 0});
  for (; at != entries_.end() && at->first.first == context_id; ++at) {
    ++held.segments;
    held.bytes += at->second.bytes;
  }
  return held;
}

}  // namespace mnemo
