// The stored embeddings of a range, for searches that rank exactly and for
// builds.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "index/vector/segment_set.h"
#include "index/vector/vector_types.h"
#include "storage/base/mutex.h"
#include "storage/context/context_reader.h"

namespace mnemo {

// What a context's rows look like to the index.
inline VectorShape ShapeOf(const ContextSpec& spec) {
  return {.dimension = spec.dimension, .type = spec.searched(), .metric = spec.metric};
}

// For searches: what is read is cached. Row 0 is the token at `first_position`,
// which is the first of a range. Thread-safe; borrows both.
class SearchVectors final : public VectorReader {
 public:
  SearchVectors(const ContextReader& reader, const ContextRecord& context, uint64_t first_position)
      : reader_(reader), context_(context), first_position_(first_position) {}

  // Errors: the store's; kDataLoss (a row is not there).
  absl::Status Read(std::span<const RowId> rows, ReadScratch& scratch,
                    std::span<const uint8_t*> out) const override;

 private:
  const ContextReader& reader_;
  const ContextRecord& context_;
  const uint64_t first_position_;
};

// For builds, which read all rows some times over: from what `snapshot` holds in
// RAM, and otherwise from the store, neighbours together, past the cache. Single
// rows, which a calibration asks for again and again, are kept, up to
// kKeptBytes. Thread-safe, but one call at a time reads.
class BuildVectors final : public VectorReader {
 public:
  static constexpr size_t kKeptBytes = size_t{32} << 20;

  BuildVectors(const ContextReader& reader, const ContextRecord& context, uint64_t first_position,
               std::shared_ptr<const SegmentSnapshot> snapshot)
      : reader_(reader),
        context_(context),
        first_position_(first_position),
        snapshot_(std::move(snapshot)) {}

  // Errors: the store's; kDataLoss (a row is not there).
  absl::Status Read(std::span<const RowId> rows, ReadScratch& scratch,
                    std::span<const uint8_t*> out) const override;

 private:
  using Pieces = std::vector<ChunkCache::RowsPtr>;

  // Null where it lies in no growing segment.
  const uint8_t* InRam(RowId row) const;
  // The chunks that rows [first, last] lie in.
  absl::Status ReadChunks(RowId first, RowId last) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<const uint8_t*> Kept(RowId row) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Null where it is not among the chunks that were read last.
  const uint8_t* InChunks(RowId row, ReadScratch& scratch) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ContextReader& reader_;
  const ContextRecord& context_;
  const uint64_t first_position_;
  const std::shared_ptr<const SegmentSnapshot> snapshot_;
  mutable Mutex mutex_;  // across the store: a build has one thread
  mutable Pieces chunks_ ABSL_GUARDED_BY(mutex_);
  mutable absl::flat_hash_map<RowId, std::string> kept_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo
