#include "storage/block/stored_part_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/block/part_encoding.h"

namespace mnemo {
namespace {

constexpr auto kRaw = static_cast<uint8_t>(StoredForm::kRaw);

// The parent of a part that lies with its stretch is in the same stretch, but
// for the first of a stretch, whose parent is then not recognised.
uint16_t ShardOfParent(const PartKey& key, const BlockKey& parent) {
  const bool with_stretch = key.shard != ShardOf(key.scope, key.salt, key.key.view());
  return with_stretch ? key.shard : ShardOf(key.scope, key.salt, parent.view());
}

NewPart NewPartOf(const StoreCore& core, const ExpiryClock& time, const PartKey& key,
                  const WriteSpec& spec) {
  NewPart part;
  part.key = key;
  part.parent = spec.parent;
  if (!spec.parent.empty()) part.parent_shard = ShardOfParent(key, spec.parent);
  part.payload_bytes = spec.payload_bytes;
  part.depth = spec.depth;
  part.tokens = spec.tokens;
  part.durability = spec.durability;
  part.created = time.Wall();
  part.expires = time.Believed(spec.expires);
  return part;
}

BlockMetadata MetadataFor(const NewPart& part, const Digest128& digest, uint64_t stored_bytes) {
  BlockMetadata metadata;
  metadata.digest = digest;
  metadata.payload_bytes = part.payload_bytes;
  metadata.stored_bytes = stored_bytes;
  metadata.depth = part.depth;
  metadata.tokens = part.tokens;
  metadata.codec = kRaw;
  metadata.durability = part.durability;
  metadata.created = part.created;
  metadata.expires = part.expires;
  metadata.parent = std::string(part.parent.view());
  return metadata;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PartWriter>> StoredPartWriter::Begin(StoreCore& core,
                                                                    Demotion& demotion,
                                                                    const PartKey& key,
                                                                    const WriteSpec& spec) {
  if (spec.payload_bytes < 1 || spec.payload_bytes > kMaxPartBytes) {
    return absl::InvalidArgumentError(
        fmt::format("payload_bytes: {} is not in [1, {}]", spec.payload_bytes, kMaxPartBytes));
  }
  MNEMO_ASSIGN_OR_RETURN(
      EnvelopeBuilder envelope,
      EnvelopeBuilder::Create(key.Stored().bytes(), spec.layout.sizes, spec.layout.dtype_bytes));
  if (envelope.payload_bytes() != spec.payload_bytes) {
    return absl::InvalidArgumentError(
        fmt::format("layout.sizes: add up to {}, not to payload_bytes {}", envelope.payload_bytes(),
                    spec.payload_bytes));
  }
  if (!spec.lossless_codec_allowed) core.encodings.Forbid(key.scope);
  std::unique_ptr<StoredPartWriter> writer(new StoredPartWriter(
      core, demotion, NewPartOf(core, core.time(), key, spec), spec, std::move(envelope)));
  MNEMO_RETURN_IF_ERROR(writer->Reserve());
  MNEMO_RETURN_IF_ERROR(writer->TakeExtents());
  return writer;
}

StoredPartWriter::~StoredPartWriter() {
  if (!open_) return;
  std::vector<EntryId> new_leaves;
  core_.directory.Abandon(reserved_, new_leaves);
  core_.ReleaseHolds(new_leaves);
}

absl::Status StoredPartWriter::Reserve() {
  // One that expired, or is below its floor, is in the way at most once, unless others write it as
  // well.
  for (int attempt = 0; attempt < 4; ++attempt) {
    MNEMO_ASSIGN_OR_RETURN(
        const Reservation reservation,
        core_.directory.Reserve(part_, core_.time().Mono() + core_.options().max_reservation));
    switch (reservation.outcome) {
      case Reservation::Outcome::kPresent:
        if (!DropBelowFloor(reservation.ref)) {
          return absl::AlreadyExistsError("the part is present");
        }
        core_.events.Deliver();
        break;
      case Reservation::Outcome::kPending:
        return absl::AbortedError("the part is being written by somebody else");
      case Reservation::Outcome::kReserved:
        reserved_ = reservation.ref;
        open_ = true;
        return absl::OkStatus();
      case Reservation::Outcome::kExpired:
        core_.RemoveExpired(reservation.ref, core_.gate.Enter(reservation.ref.id));
        core_.events.Deliver();
        break;
    }
  }
  return absl::AbortedError("the part is being written by somebody else");
}

bool StoredPartWriter::DropBelowFloor(EntryRef ref) {
  const EntryGate::Hold hold = core_.gate.Enter(ref.id);
  const std::optional<DirectoryEntry> entry = core_.directory.Get(ref.id);
  if (!entry || entry->key != part_.key || entry->state != EntryState::kPresent) return true;
  if (!IsBelowFloor(core_, *entry)) return false;
  ++core_.tally.below_floor;
  // What fails is the erasing of bytes that nobody finds any more.
  core_.Remove(entry->ref, Directory::RemoveWhen::kAlways, std::nullopt).IgnoreError();
  return true;
}

absl::Status StoredPartWriter::TakeExtents() {
  const uint64_t size = envelope_.header_bytes() + envelope_.payload_bytes();
  RamLevel& l1 = core_.Ram(Level::kL1);
  absl::StatusOr<WritableValue> value = l1.Reserve(size);
  // Others may take the room that was just made, but not for ever.
  for (int attempt = 0; attempt < 8 && absl::IsResourceExhausted(value.status()); ++attempt) {
    if (!demotion_.MakeRoom(Level::kL1, size)) break;
    value = l1.Reserve(size);
  }
  if (!value.ok()) {
    ++core_.tally.refused_puts;
    return absl::ResourceExhaustedError(
        fmt::format("l1_bytes: no room can be made for {} bytes among {} of {}", size,
                    core_.Used(Level::kL1), core_.Capacity(Level::kL1)));
  }
  value_ = *std::move(value);
  return absl::OkStatus();
}

absl::Status StoredPartWriter::Append(ByteView bytes) {
  if (!open_) return absl::FailedPreconditionError("the part was committed");
  const uint64_t offset = envelope_.header_bytes() + envelope_.received();
  MNEMO_RETURN_IF_ERROR(envelope_.Update(bytes));
  value_.Write(offset, bytes);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> StoredPartWriter::Fill(uint64_t most, const Bring& bring) {
  if (!open_) return absl::FailedPreconditionError("the part was committed");
  if (most > envelope_.payload_bytes() - envelope_.received()) {
    return absl::InvalidArgumentError(
        fmt::format("payload has more than the {} bytes announced", envelope_.payload_bytes()));
  }
  const std::vector<MutableByteView> room =
      value_.Room(envelope_.header_bytes() + envelope_.received(), most);
  MNEMO_ASSIGN_OR_RETURN(const uint64_t brought, bring(room));
  MNEMO_CHECK(brought <= most);
  uint64_t left = brought;
  for (const MutableByteView piece : room) {
    const uint64_t filled = std::min<uint64_t>(left, piece.size());
    MNEMO_RETURN_IF_ERROR(envelope_.Update(piece.first(filled)));
    left -= filled;
  }
  return brought;
}

absl::StatusOr<Digest128> StoredPartWriter::Commit() {
  if (!open_) return absl::FailedPreconditionError("the part was committed");
  MNEMO_ASSIGN_OR_RETURN(const Digest128 digest, envelope_.Digest());
  if (announced_ && *announced_ != digest) {
    return absl::DataLossError("digest: the bytes have another than announced");
  }
  MNEMO_ASSIGN_OR_RETURN(const std::string header, envelope_.Header());
  value_.Write(0, AsBytes(header));
  absl::Status published;
  {
    const EntryGate::Hold hold = core_.gate.Enter(reserved_.id);
    published = Publish(digest);
  }
  core_.events.Deliver();
  if (absl::IsResourceExhausted(published)) ++core_.tally.refused_puts;
  MNEMO_RETURN_IF_ERROR(published);
  open_ = false;
  return digest;
}

absl::Status StoredPartWriter::Publish(const Digest128& digest) {
  std::optional<DiskPlace> disk;
  if (part_.durability != Durability::kCache) {
    // With the gate held no other writer of this key comes to the disk, so the
    // bytes there are those of whoever publishes.
    const std::optional<DirectoryEntry> entry = core_.directory.Get(reserved_.id);
    if (!entry || entry->ref != reserved_) {
      return absl::AbortedError("the reservation ended");
    }
    MNEMO_ASSIGN_OR_RETURN(disk, WriteDurably(digest));
  }
  const uint64_t size = value_.size();
  const RamPlace ram{Level::kL1, core_.Ram(Level::kL1).Adopt(std::move(value_)), size, kRaw};
  const absl::Status published = core_.Publish(reserved_, part_.key, digest, ram, disk);
  if (published.ok()) {
    // On disk as it came.
    if (disk) core_.spaces.Changed(part_.key.scope);
    return published;
  }
  core_.Ram(Level::kL1).Erase(StoredKey(), ram.locator).IgnoreError();
  if (disk) {
    // Not acknowledged, so a copy that stays is found whole or not at all.
    core_.disks().Erase(*disk, part_.key.Stored()).IgnoreError();
    core_.disks().Give(disk->level, disk->stored_bytes);
  }
  return absl::AbortedError("the reservation ended");
}

absl::StatusOr<DiskPlace> StoredPartWriter::WriteDurably(const Digest128& digest) {
  const DiskPlace place{Level::kL3, part_.durability, value_.size(), kRaw};
  MNEMO_RETURN_IF_ERROR(demotion_.TakeOnDisk(place.level, place.stored_bytes));
  const absl::Status put =
      core_.disks().Put(place, part_.key.Stored(), MetadataFor(part_, digest, value_.size()),
                        value_.View(0, value_.size()));
  if (!put.ok()) {
    core_.disks().Give(place.level, place.stored_bytes);
    return put;
  }
  return place;
}

}  // namespace mnemo
