// Reads parts from wherever they lie, verified.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "storage/block/block_store.h"
#include "storage/block/read_ahead.h"
#include "storage/block/store_core.h"
#include "storage/codec/envelope.h"

namespace mnemo {

// Thread-safe. Takes no gate unless a copy is damaged, so that reads wait for
// no mover. Memory: what the answer pins or holds decoded; what is read ahead.
class TieredReader {
 public:
  explicit TieredReader(StoreCore& core)
      : core_(core), ahead_(core.disks(), ReadAheadBytes(core.options())) {}

  // As BlockStore::Read. `used`, if there is an answer, is the entry as it was
  // before this use.
  absl::StatusOr<PartRead> Read(const PartKey& key, uint32_t first, uint32_t count,
                                DirectoryEntry& used);

  // As BlockStore::ReadInto.
  absl::StatusOr<PartRead> ReadInto(const PartKey& key, uint32_t first, uint32_t count,
                                    PartSink& sink, DirectoryEntry& used);

  // As BlockStore::ReadEncoded; `used` as above.
  absl::StatusOr<std::optional<PartRead>> ReadEncoded(const PartKey& key,
                                                      std::span<const SectionRun> runs,
                                                      CodecMask takes, DirectoryEntry& used);

  // As BlockStore::ReadAhead.
  std::unique_ptr<PartAhead> ReadAhead(const PartKey& key);
  // Ends what is read ahead. No other call may run or follow.
  void Stop() { ahead_.Stop(); }

 private:
  // Sections of a part, and what an answer says of it, without its bytes.
  struct Opened {
    Envelope envelope;
    uint32_t first = 0;
    uint32_t end = 0;
    PartRead read;

    uint64_t bytes() const { return envelope.ExactOffset(end) - envelope.ExactOffset(first); }
    // Of a raw envelope: the bytes of the sections, as they are stored.
    PinnedBytes Raw(const PinnedBytes& stored) const {
      return stored.Slice(envelope.header_bytes() + read.offset, bytes());
    }
  };

  // Tries copies of the part until `open(entry, stored)` gives an answer.
  template <typename OpenCopy>
  absl::StatusOr<PartRead> TryCopies(const PartKey& key, DirectoryEntry& used,
                                     const OpenCopy& open);
  absl::StatusOr<PinnedBytes> Fetch(const DirectoryEntry& entry);
  absl::StatusOr<Opened> OpenHeader(const DirectoryEntry& entry, const PinnedBytes& stored,
                                    uint32_t first, uint32_t count);
  absl::StatusOr<PartRead> Open(const DirectoryEntry& entry, const PinnedBytes& stored,
                                uint32_t first, uint32_t count);
  // `refused`: what the sink said, if it was the sink that ended the read.
  absl::StatusOr<PartRead> OpenInto(const DirectoryEntry& entry, const PinnedBytes& stored,
                                    uint32_t first, uint32_t count, PartSink& sink,
                                    absl::Status& refused);
  // Not encoded: it is to be read otherwise, and has no bytes.
  absl::StatusOr<PartRead> OpenEncoded(const DirectoryEntry& entry, const PinnedBytes& stored,
                                       std::span<const SectionRun> runs, CodecMask takes);
  // Drops the nearest copy of `seen` if it is still the one that was read, and
  // still cannot be. True if the part may be read again.
  bool Repair(const DirectoryEntry& seen);

  StoreCore& core_;
  ReadAheadTable ahead_;
};

}  // namespace mnemo
