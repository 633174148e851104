// Sealed index segments of contexts, as bytes in the ordered stores.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/context/context_store.h"

namespace mnemo {

// What is recorded of a segment. Its bytes are the index's own format.
struct StoredSegment {
  uint64_t number = 0;     // of its parts; never given twice in a range
  uint32_t first_row = 0;  // within the range
  uint32_t rows = 0;       // not 0
  uint8_t kind = 0;        // as the index numbers them
  uint64_t bytes = 0;      // not 0
  uint64_t digest = 0;     // what the index wants to see again
  uint32_t end_row() const { return first_row + rows; }
  friend bool operator==(const StoredSegment&, const StoredSegment&) = default;
};

// The segments of a range, one behind the other from row 0.
struct SegmentRecord {
  uint64_t next_number = 0;
  std::vector<StoredSegment> segments;

  uint32_t rows() const { return segments.empty() ? 0 : segments.back().end_row(); }
  friend bool operator==(const SegmentRecord&, const SegmentRecord&) = default;
};

// `seed` is SeedOf the key. Errors of decoding: kDataLoss; kFailedPrecondition
// (another format version).
std::string EncodeSegments(const SegmentRecord& record, uint64_t seed);
absl::StatusOr<SegmentRecord> DecodeSegments(ByteView value, uint64_t seed);

// Keeps segments in the store of their context, cut into values of 256 KiB, and
// a record of each range's. The record is written in one batch with the removal
// of what it no longer names, after all parts: killed at any moment, it names
// whole segments only, and what it does not name is removed by the next Replace
// or with the context. Thread-safe, but that changes of one range come one after
// the other. Borrows the store.
class ContextSegments {
 public:
  explicit ContextSegments(ContextStore& contexts) : contexts_(contexts) {}

  // Empty where there is none. Errors: kDataLoss, kFailedPrecondition (format),
  // those of Store.
  absl::StatusOr<SegmentRecord> Read(const ContextRecord& context, uint64_t range) const;

  // A record, and the bytes that it named at one moment.
  class View {
   public:
    // Errors: as Read.
    absl::StatusOr<SegmentRecord> Read() const;
    // Errors: kDataLoss (a part is missing or damaged); kFailedPrecondition.
    absl::StatusOr<std::string> Load(const StoredSegment& segment) const;

   private:
    friend class ContextSegments;
    View(const Store& store, KeyScope scope, uint64_t range)
        : store_(store), scope_(scope), range_(range), snapshot_(store.Snapshot()) {}
    const Store& store_;
    const KeyScope scope_;
    const uint64_t range_;
    const std::unique_ptr<StoreSnapshot> snapshot_;
  };
  View Look(const ContextRecord& context, uint64_t range) const {
    return View(contexts_.stores().Of(context), context.scope, range);
  }

  // Stores `bytes` as the segment `added`, whose number and size are given here,
  // and makes it and `kept` the record of the range; of `before`, which is the
  // record so far, what is not in `kept` is removed. `before` is empty where the
  // record could not be read. Writes without syncing: as durable as what the
  // segment was built from. Between two parts it looks at `cancelled`.
  // Returns the new record. Errors: kNotFound (the context is deleted),
  // kCancelled, those of Store.
  absl::StatusOr<SegmentRecord> Replace(const ContextRecord& context, uint64_t range,
                                        const SegmentRecord& before,
                                        std::vector<StoredSegment> kept, StoredSegment added,
                                        ByteView bytes, const std::atomic<bool>& cancelled);

  static constexpr size_t kPartBytes = 256 << 10;

 private:
  // Removes parts that `record` does not name.
  absl::Status Clear(const ContextRecord& context, uint64_t range, const SegmentRecord& record);
  absl::Status Apply(const ContextRecord& context, uint64_t range, StoreBatch& batch);

  ContextStore& contexts_;
};

}  // namespace mnemo
