#include "storage/block/tiered_reader.h"

#include <fmt/format.h>

#include <atomic>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/block/part_encoding.h"

namespace mnemo {
namespace {

// A part moves at most a few times while it is being read once.
constexpr int kMaxAttempts = 16;
// What is checked and then brought to a sink at once: half of a processor's second cache.
constexpr uint64_t kPieceBytes = 256 * kKiB;

bool IsDamage(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsNotFound(status);
}

// What Open answers of a copy that is sound, and not good enough any more.
absl::Status BelowFloor() { return absl::OutOfRangeError("below the floor of its space"); }
bool IsBelow(const absl::Status& status) { return absl::IsOutOfRange(status); }

// Of a lossy one.
PartFidelity FidelityOf(const Envelope& envelope) {
  return {.codec = FormName(FormOfEnvelope(envelope)),
          .bits_per_value = envelope.bits_per_value(),
          .error = envelope.error()};
}

// What the part lies in where reads find it first, by what the directory knows.
uint8_t FormOfNearest(const DirectoryEntry& entry) {
  return entry.ram ? entry.ram->codec : entry.disk->codec;
}

Digest128 DigestOf(const PinnedBytes& bytes) {
  StreamingDigest128 digest;
  for (const ByteView piece : bytes.pieces()) digest.Update(piece);
  return digest.Digest();
}

}  // namespace

template <typename OpenCopy>
absl::StatusOr<PartRead> TieredReader::TryCopies(const PartKey& key, DirectoryEntry& used,
                                                 const OpenCopy& open) {
  absl::Status damage;
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const std::optional<DirectoryEntry> entry = core_.directory.Find(key);
    if (!entry || entry->state != EntryState::kPresent) break;
    // What was read ahead is asked once: if it will not do, the disk is.
    std::optional<PinnedBytes> ahead;
    if (attempt == 0 && !entry->ram) ahead = ahead_.Take(*entry);
    const absl::StatusOr<PinnedBytes> stored = ahead ? *std::move(ahead) : Fetch(*entry);
    absl::Status failed = stored.status();
    if (failed.ok()) {
      absl::StatusOr<PartRead> read = open(*entry, *stored);
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

absl::StatusOr<PartRead> TieredReader::Read(const PartKey& key, uint32_t first, uint32_t count,
                                            DirectoryEntry& used) {
  return TryCopies(key, used, [&](const DirectoryEntry& entry, const PinnedBytes& stored) {
    return Open(entry, stored, first, count);
  });
}

absl::StatusOr<PartRead> TieredReader::ReadInto(const PartKey& key, uint32_t first, uint32_t count,
                                                PartSink& sink, DirectoryEntry& used) {
  absl::Status refused;
  absl::StatusOr<PartRead> read =
      TryCopies(key, used, [&](const DirectoryEntry& entry, const PinnedBytes& stored) {
        return OpenInto(entry, stored, first, count, sink, refused);
      });
  // Whatever its code is, it says nothing of the copy.
  if (!refused.ok()) return refused;
  return read;
}

std::unique_ptr<PartAhead> TieredReader::ReadAhead(const PartKey& key) {
  const std::optional<DirectoryEntry> entry = core_.directory.Find(key);
  if (!entry || entry->state != EntryState::kPresent || entry->ram) return nullptr;
  return ahead_.Begin(*entry);
}

absl::StatusOr<PinnedBytes> TieredReader::Fetch(const DirectoryEntry& entry) {
  if (entry.ram) return core_.Ram(entry.ram->level).Get(StoredKey(), entry.ram->locator);
  return core_.disks().Get(*entry.disk, entry.key.Stored());
}

absl::StatusOr<TieredReader::Opened> TieredReader::OpenHeader(const DirectoryEntry& entry,
                                                              const PinnedBytes& stored,
                                                              uint32_t first, uint32_t count) {
  Opened opened;
  MNEMO_ASSIGN_OR_RETURN(opened.envelope, CheckedHeader(entry, stored));
  if (IsBelowFloor(core_, entry, opened.envelope)) return BelowFloor();
  const uint32_t sections = opened.envelope.section_count();
  if (first >= sections || count > sections - first) {
    return absl::InvalidArgumentError(
        fmt::format("sections: [{}, {}) is not within [0, {})", first, first + count, sections));
  }
  opened.first = first;
  opened.end = count == 0 ? sections : first + count;
  opened.read.digest = opened.envelope.digest();
  opened.read.payload_bytes = opened.envelope.payload_bytes();
  opened.read.level = entry.nearest();
  opened.read.depth = entry.depth;
  opened.read.offset = opened.envelope.ExactOffset(first);
  return opened;
}

absl::StatusOr<PartRead> TieredReader::Open(const DirectoryEntry& entry, const PinnedBytes& stored,
                                            uint32_t first, uint32_t count) {
  MNEMO_ASSIGN_OR_RETURN(Opened opened, OpenHeader(entry, stored, first, count));
  const Envelope& envelope = opened.envelope;
  PartRead& read = opened.read;
  if (envelope.raw()) {
    for (uint32_t i = opened.first; i < opened.end; ++i) {
      MNEMO_RETURN_IF_ERROR(envelope.VerifySection(i, stored));
    }
    read.bytes = opened.Raw(stored);
    return std::move(read);
  }
  MNEMO_ASSIGN_OR_RETURN(read.bytes, DecodeSections(core_, entry, envelope, stored, opened.first,
                                                    opened.end - opened.first));
  if (envelope.lossy()) {
    read.fidelity = FidelityOf(envelope);
    if (opened.end - opened.first == envelope.section_count()) {
      read.given_digest = DigestOf(read.bytes.pieces()[0]);
    }
  }
  return std::move(read);
}

absl::StatusOr<PartRead> TieredReader::OpenInto(const DirectoryEntry& entry,
                                                const PinnedBytes& stored, uint32_t first,
                                                uint32_t count, PartSink& sink,
                                                absl::Status& refused) {
  MNEMO_ASSIGN_OR_RETURN(Opened opened, OpenHeader(entry, stored, first, count));
  const Envelope& envelope = opened.envelope;
  const auto ended_by_sink = [] { return absl::AbortedError("the sink ended the read"); };
  if (!envelope.raw()) {
    MNEMO_ASSIGN_OR_RETURN(PartRead read, Open(entry, stored, first, count));
    const PinnedBytes decoded = std::exchange(read.bytes, {});
    refused = sink.Begin(read, decoded.size());
    if (refused.ok()) refused = sink.Take(0, decoded);
    if (!refused.ok()) return ended_by_sink();
    read.bytes = decoded;
    return read;
  }
  refused = sink.Begin(opened.read, opened.bytes());
  if (!refused.ok()) return ended_by_sink();
  // Where each piece begins: at a section, and the end of the last.
  std::vector<uint32_t> bounds = {opened.first};
  for (uint32_t i = opened.first + 1; i < opened.end; ++i) {
    if (envelope.ExactOffset(i) - envelope.ExactOffset(bounds.back()) >= kPieceBytes) {
      bounds.push_back(i);
    }
  }
  bounds.push_back(opened.end);
  const PinnedBytes bytes = opened.Raw(stored);
  const size_t pieces = bounds.size() - 1;
  std::vector<absl::Status> sound(pieces);
  std::vector<absl::Status> taken(pieces);
  std::atomic<bool> failed{false};
  sink.ForEach(pieces, [&](size_t piece) {
    if (failed) return;
    for (uint32_t i = bounds[piece]; i < bounds[piece + 1]; ++i) {
      sound[piece].Update(envelope.VerifySection(i, stored));
    }
    const uint64_t begin = envelope.ExactOffset(bounds[piece]) - opened.read.offset;
    const uint64_t end = envelope.ExactOffset(bounds[piece + 1]) - opened.read.offset;
    if (sound[piece].ok()) {
      taken[piece] = sink.Take(begin, bytes.Slice(begin, end - begin));
    }
    if (!sound[piece].ok() || !taken[piece].ok()) failed = true;
  });
  for (const absl::Status& status : taken) refused.Update(status);
  if (!refused.ok()) return ended_by_sink();
  for (const absl::Status& status : sound) MNEMO_RETURN_IF_ERROR(status);
  opened.read.bytes = bytes;
  return std::move(opened.read);
}

absl::StatusOr<std::optional<PartRead>> TieredReader::ReadEncoded(const PartKey& key,
                                                                  std::span<const SectionRun> runs,
                                                                  CodecMask takes,
                                                                  DirectoryEntry& used) {
  // Nothing is fetched of what most likely comes as it is.
  const std::optional<DirectoryEntry> entry = core_.directory.Find(key);
  if (!entry || entry->state != EntryState::kPresent) return std::nullopt;
  const CodecId codec = CodecOf(static_cast<StoredForm>(FormOfNearest(*entry)));
  if (codec == CodecId::kRaw || !Takes(takes, static_cast<uint8_t>(codec))) return std::nullopt;
  MNEMO_ASSIGN_OR_RETURN(
      PartRead read, TryCopies(key, used, [&](const DirectoryEntry& at, const PinnedBytes& stored) {
        return OpenEncoded(at, stored, runs, takes);
      }));
  if (!read.encoded) return std::nullopt;
  return read;
}

absl::StatusOr<PartRead> TieredReader::OpenEncoded(const DirectoryEntry& entry,
                                                   const PinnedBytes& stored,
                                                   std::span<const SectionRun> runs,
                                                   CodecMask takes) {
  MNEMO_ASSIGN_OR_RETURN(Opened opened, OpenHeader(entry, stored, 0, 0));
  const Envelope& envelope = opened.envelope;
  MNEMO_ASSIGN_OR_RETURN(PinnedBytes excerpt, ExcerptOf(envelope, stored, runs));
  const SectionRun all = {.first = 0, .count = envelope.section_count()};
  uint64_t exact_bytes = 0;
  const std::span<const SectionRun> taken = runs.empty() ? std::span(&all, 1) : runs;
  // What is to be read otherwise is checked then.
  for (const SectionRun& run : taken) {
    exact_bytes += envelope.ExactOffset(run.first + run.count) - envelope.ExactOffset(run.first);
    for (uint32_t i = run.first; i < run.first + run.count; ++i) {
      if (!Takes(takes, envelope.sections()[i].codec)) return PartRead();
    }
  }
  if (excerpt.size() >= exact_bytes) return PartRead();
  for (const SectionRun& run : taken) {
    for (uint32_t i = run.first; i < run.first + run.count; ++i) {
      MNEMO_RETURN_IF_ERROR(envelope.VerifySection(i, stored));
    }
  }
  PartRead& read = opened.read;
  read.encoded = true;
  if (envelope.lossy()) read.fidelity = FidelityOf(envelope);
  read.given_digest = DigestOf(excerpt);
  read.bytes = std::move(excerpt);
  return std::move(read);
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
