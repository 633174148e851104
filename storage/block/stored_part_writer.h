// Receives a part into L1 and publishes it.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "storage/block/block_store.h"
#include "storage/block/demotion.h"
#include "storage/block/store_core.h"
#include "storage/codec/envelope.h"

namespace mnemo {

// The bytes of the envelope, header first, stream straight into their L1
// extents; the header is written when all its checksums are known.
class StoredPartWriter final : public PartWriter {
 public:
  // As BlockStore::BeginWrite. Both outlive the writer.
  static absl::StatusOr<std::unique_ptr<PartWriter>> Begin(StoreCore& core, Demotion& demotion,
                                                           const PartKey& key,
                                                           const WriteSpec& spec);
  ~StoredPartWriter() override;

  absl::Status Append(ByteView bytes) override;
  absl::StatusOr<uint64_t> Fill(uint64_t most, const Bring& bring) override;
  uint64_t received() const override { return envelope_.received(); }
  absl::StatusOr<Digest128> Commit() override;

 private:
  StoredPartWriter(StoreCore& core, Demotion& demotion, NewPart part, const WriteSpec& spec,
                   EnvelopeBuilder envelope)
      : core_(core),
        demotion_(demotion),
        part_(std::move(part)),
        announced_(spec.digest),
        envelope_(std::move(envelope)) {}

  absl::Status Reserve();
  // Whether the part that is in the way is none any more: it lies below its floor, and
  // was dropped, or somebody else removed it.
  bool DropBelowFloor(EntryRef ref);
  absl::Status TakeExtents();
  // Held. Writes the part to the instance of its class.
  absl::StatusOr<DiskPlace> WriteDurably(const Digest128& digest);
  // Held.
  absl::Status Publish(const Digest128& digest);

  StoreCore& core_;
  Demotion& demotion_;
  const NewPart part_;
  const std::optional<Digest128> announced_;
  EnvelopeBuilder envelope_;
  EntryRef reserved_;
  bool open_ = false;  // the reservation is ours to give up
  WritableValue value_;
};

}  // namespace mnemo
