#include "storage/block/tiered_reader.h"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/block/part_encoding.h"

namespace mnemo {
namespace {

// A part moves at most a few times while it is being read once.
constexpr int kMaxAttempts = 16;

bool IsDamage(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsNotFound(status);
}

// What Open answers of a copy that is sound, and not good enough any more.
absl::Status BelowFloor() { return absl::OutOfRangeError("below the floor of its space"); }
bool IsBelow(const absl::Status& status) { return absl::IsOutOfRange(status); }

}  // namespace

absl::StatusOr<PartRead> TieredReader::Read(const PartKey& key, uint32_t first, uint32_t count,
                                            DirectoryEntry& used) {
  absl::Status damage;
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const std::optional<DirectoryEntry> entry = core_.directory.Find(key);
    if (!entry || entry->state != EntryState::kPresent) break;
    const absl::StatusOr<PinnedBytes> stored = Fetch(*entry);
    absl::Status failed = stored.status();
    if (failed.ok()) {
      absl::StatusOr<PartRead> read = Open(*entry, *stored, first, count);
      if (read.ok()) {
        used = *entry;
        return read;
      }
      failed = read.status();
    }
    if (!IsDamage(failed) && !IsBelow(failed)) return failed;
    // Not found where the entry says: most likely it has moved on meanwhile.
    const std::optional<DirectoryEntry> now = core_.directory.Find(key);
    if (now && now->ref == entry->ref && Repair(*entry) && IsDamage(failed)) damage = failed;
  }
  if (damage.ok()) return absl::NotFoundError("no such part");
  return absl::DataLossError(fmt::format("the part is damaged: {}", std::string(damage.message())));
}

absl::StatusOr<PinnedBytes> TieredReader::Fetch(const DirectoryEntry& entry) {
  if (entry.ram) return core_.Ram(entry.ram->level).Get(StoredKey(), entry.ram->locator);
  return core_.disks().Get(*entry.disk, entry.key.Stored());
}

absl::StatusOr<PartRead> TieredReader::Open(const DirectoryEntry& entry, const PinnedBytes& stored,
                                            uint32_t first, uint32_t count) {
  MNEMO_ASSIGN_OR_RETURN(const Envelope envelope, CheckedHeader(entry, stored));
  if (IsBelowFloor(core_, entry, envelope)) return BelowFloor();
  const uint32_t sections = envelope.section_count();
  if (first >= sections || count > sections - first) {
    return absl::InvalidArgumentError(
        fmt::format("sections: [{}, {}) is not within [0, {})", first, first + count, sections));
  }
  if (count == 0) count = sections - first;
  PartRead read;
  read.digest = envelope.digest();
  read.payload_bytes = envelope.payload_bytes();
  read.level = entry.nearest();
  read.depth = entry.depth;
  read.offset = envelope.ExactOffset(first);
  if (envelope.raw()) {
    for (uint32_t i = first; i < first + count; ++i) {
      MNEMO_RETURN_IF_ERROR(envelope.VerifySection(i, stored));
    }
    read.bytes = stored.Slice(envelope.header_bytes() + read.offset,
                              envelope.ExactOffset(first + count) - read.offset);
    return read;
  }
  MNEMO_ASSIGN_OR_RETURN(read.bytes, DecodeSections(core_, entry, envelope, stored, first, count));
  if (envelope.lossy()) {
    read.fidelity = PartFidelity{.codec = FormName(FormOfEnvelope(envelope)),
                                 .bits_per_value = envelope.bits_per_value(),
                                 .error = envelope.error()};
    if (count == sections) read.decoded_digest = DigestOf(read.bytes.pieces()[0]);
  }
  return read;
}

bool TieredReader::Repair(const DirectoryEntry& seen) {
  {
    const EntryGate::Hold hold = core_.gate.Enter(seen.ref.id);
    const std::optional<DirectoryEntry> entry = core_.directory.Get(seen.ref.id);
    if (!entry || entry->ref != seen.ref || entry->state != EntryState::kPresent) return false;
    // Whoever held the gate before may have been about to move it.
    const absl::StatusOr<PinnedBytes> stored = Fetch(*entry);
    const absl::Status sound = stored.ok() ? Open(*entry, *stored, 0, 0).status() : stored.status();
    if (IsBelow(sound)) {
      core_.DropBelowFloor(*entry, entry->nearest());
    } else if (IsDamage(sound)) {
      core_.DropDamaged(*entry, entry->nearest());
    } else {
      return false;
    }
  }
  core_.events.Deliver();
  return true;
}

}  // namespace mnemo
