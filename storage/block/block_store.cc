#include "storage/block/block_store.h"

#include <fmt/format.h>

#include <memory>
#include <random>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/block/mover.h"
#include "storage/block/part_changes.h"
#include "storage/block/part_views.h"
#include "storage/block/recovery.h"
#include "storage/block/store_core.h"
#include "storage/block/stored_part_writer.h"
#include "storage/block/tiered_reader.h"

namespace mnemo {
namespace {

// Of a graceful shutdown, which has 30 s: what writing cache parts may take.
constexpr Nanos kFlushAtClose = std::chrono::seconds(15);

absl::Status CheckRange(std::string_view field, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: {} is not in [{}, {}]", field, value, low, high));
}

absl::Status CheckAtLeast(std::string_view field, uint64_t value, uint64_t low) {
  if (value >= low) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("{}: {} is less than {}", field, value, low));
}

absl::StatusOr<std::unique_ptr<RamLevel>> MakeRam(uint64_t bytes) {
  ArenaOptions arena;
  arena.capacity_bytes = bytes / Arena::kSlabSize * Arena::kSlabSize;
  return RamLevel::Create(arena);
}

uint64_t RandomId(std::random_device& random) {
  const uint64_t id = uint64_t{random()} << 32 | random();
  return id == 0 ? 1 : id;
}

class TieredBlockStore final : public BlockStore {
 public:
  TieredBlockStore(StoreCore::Parts parts, Observer observer, FileSystem& files,
                   const Watermark& watermark)
      : node_id_(fmt::format("{:016x}", parts.data_directory->identity().node_id)),
        core_(std::move(parts), std::move(observer)),
        mover_(core_, files, watermark),
        changes_(core_, mover_.demotion()),
        reader_(core_),
        views_(core_) {}

  absl::Status Recover(const std::vector<DiskLevels::OpenedInstance>& opened) {
    bool expiring = false;
    MNEMO_ASSIGN_OR_RETURN(recovery_, RecoverParts(core_, opened, expiring));
    if (expiring) mover_.upkeep().NoteExpiring();
    return absl::OkStatus();
  }

  void UseSpaces(FindSpace find) override { core_.spaces.Use(std::move(find)); }
  void SpaceChanged(KeyScope scope) override {
    core_.spaces.Changed(scope);
    mover_.Wake();
  }
  Reencoding ReencodingOf(KeyScope scope) const override {
    return mover_.reencoder().ProgressOf(scope);
  }
  uint64_t ReencodingPartsLeft() const override { return mover_.reencoder().PartsLeft(); }
  const Recovery& recovery() const override { return recovery_; }
  const std::string& node_id() const override { return node_id_; }
  Store& state() override { return core_.disks().state(); }
  Store* ordered_store(Level level, Durability durability) override {
    return core_.disks().ordered_store(level, durability);
  }
  void CountContexts(uint64_t archive_bytes) override {
    core_.disks().SetContexts(Level::kDisk, archive_bytes);
  }
  uint64_t archive_free_bytes() const override {
    const uint64_t capacity = core_.disks().capacity(Level::kDisk);
    return capacity - std::min(capacity, core_.disks().used(Level::kDisk));
  }

  absl::StatusOr<std::unique_ptr<PartWriter>> BeginWrite(const PartKey& key,
                                                         const WriteSpec& spec) override {
    if (spec.expires.nanos != 0) mover_.upkeep().NoteExpiring();
    mover_.AfterWrite();
    return StoredPartWriter::Begin(core_, mover_.demotion(), key, spec);
  }

  std::vector<Lookup> Find(std::span<const PartKey> keys) const override {
    return views_.Find(keys);
  }
  std::vector<Lookup> Find(const BlockParts& blocks) const override { return views_.Find(blocks); }
  void Touch(std::span<const PartKey> keys) override { Touch(PresentIds(keys)); }
  void Touch(std::span<const EntryId> entries) override;
  std::optional<PartState> Describe(const PartKey& key) const override {
    return views_.Describe(key);
  }

  absl::StatusOr<PartRead> Read(const PartKey& key, uint32_t first, uint32_t count) override {
    DirectoryEntry used;
    return Count(reader_.Read(key, first, count, used), used);
  }
  absl::StatusOr<PartRead> ReadInto(const PartKey& key, uint32_t first, uint32_t count,
                                    PartSink& sink) override {
    DirectoryEntry used;
    return Count(reader_.ReadInto(key, first, count, sink, used), used);
  }
  std::unique_ptr<PartAhead> ReadAhead(const PartKey& key) override {
    return reader_.ReadAhead(key);
  }

  std::vector<ChainPart> Following(const PartKey& key, size_t count) const override {
    return views_.Following(key, count);
  }
  PrefetchOutcome Prefetch(const PartKey& key, PrefetchOrigin origin) override {
    return mover_.promotion().Prefetch(key, origin);
  }
  absl::StatusOr<std::optional<PartRead>> ReadEncoded(const PartKey& key,
                                                      std::span<const SectionRun> runs,
                                                      CodecMask takes) override {
    DirectoryEntry used;
    absl::StatusOr<std::optional<PartRead>> read = reader_.ReadEncoded(key, runs, takes, used);
    if (!read.ok() || !read->has_value()) return read;
    return Count(**std::move(read), used);
  }
  absl::StatusOr<std::string> CalibrationOf(KeyScope scope, uint32_t id) override {
    MNEMO_ASSIGN_OR_RETURN(const auto calibrations, core_.spaces.CalibrationsOf(scope));
    if (const Calibration* found = calibrations->Find(id)) return found->Serialize();
    return absl::NotFoundError(fmt::format("the space has no calibration {:08x}", id));
  }

  absl::StatusOr<uint64_t> Erase(std::span<const PartKey> keys) override {
    return changes_.Erase(keys);
  }
  absl::StatusOr<uint64_t> EraseScope(KeyScope scope,
                                      const std::optional<SaltDigest>& salt) override {
    // What is known of the space is read again if it should stay.
    if (!salt) core_.spaces.Forget(scope);
    MNEMO_ASSIGN_OR_RETURN(const uint64_t erased, changes_.EraseScope(scope, salt));
    // Whoever had a part of it has given it back.
    if (!salt) MNEMO_RETURN_IF_ERROR(core_.spaces.EraseLeftOvers(scope));
    return erased;
  }
  absl::StatusOr<uint64_t> SetPinned(std::span<const PartKey> keys, bool pinned) override {
    return changes_.SetPinned(keys, pinned);
  }

  uint64_t AcquireLease(std::span<const PartKey> keys, Nanos duration) override;
  absl::Status RenewLease(uint64_t lease, uint64_t tenant, Nanos duration) override;

  absl::Status List(KeyScope scope, const std::optional<SaltDigest>& salt,
                    std::string_view key_prefix, const std::string& after, size_t limit,
                    std::vector<PartState>& parts, std::string& next) const override {
    views_.List(scope, salt, key_prefix, after, limit, parts, next);
    return absl::OkStatus();
  }
  absl::StatusOr<uint64_t> Flush(KeyScope scope) override { return changes_.Flush(scope); }

  bool MoveStep() override { return mover_.Step(); }
  void WaitForWork(Nanos timeout) override { mover_.WaitForWork(timeout); }
  void WakeMovers() override { mover_.Wake(); }

  std::array<LevelFigures, kLevelCount> Levels() const override { return views_.Levels(); }
  ScopeUsage Usage(KeyScope scope) const override { return views_.Usage(scope); }
  uint64_t parts() const override { return core_.directory.TotalUsage().parts; }
  BlockStoreCounters counters() const override { return views_.Counters(); }
  std::vector<CodecFigures> Codecs() const override { return views_.Codecs(mover_.sampler()); }
  std::array<uint64_t, kShardCount> BytesByShard() const override {
    return core_.directory.ExactBytesByShard();
  }

  absl::Status Close() override {
    reader_.Stop();
    changes_.FlushWithinRoom(core_.time().Mono() + kFlushAtClose);
    absl::Status closed = mover_.upkeep().WriteDownTime();
    closed.Update(core_.disks().SyncAll());
    closed.Update(core_.disks().Close());
    return closed;
  }

 private:
  // Counts a read that has an answer as a use of the entry.
  absl::StatusOr<PartRead> Count(absl::StatusOr<PartRead> read, const DirectoryEntry& used) {
    if (!read.ok()) return read;
    core_.CountUse(used);
    mover_.AfterUse(used.ref.id, read->level, used.hits + 1);
    const std::optional<PrefetchOrigin> origin = core_.prefetched.Take(used.ref.id);
    // One that was dropped from RAM unread has not saved a wait for the disk.
    if (origin && used.ram) {
      ++core_.tally.prefetched_used[static_cast<size_t>(*origin)];
      read->followed = *origin == PrefetchOrigin::kFollowed;
    }
    return read;
  }
  // The entries of `keys`; fewer if some are not present.
  std::vector<EntryId> PresentIds(std::span<const PartKey> keys) const;

  const std::string node_id_;
  mutable StoreCore core_;  // its views are const, its counters are not
  Mover mover_;
  PartChanges changes_;
  TieredReader reader_;
  PartViews views_;
  Recovery recovery_;
};

std::vector<EntryId> TieredBlockStore::PresentIds(std::span<const PartKey> keys) const {
  std::vector<PartHit> hits(keys.size());
  core_.directory.Lookup(keys, hits);
  std::vector<EntryId> ids;
  ids.reserve(hits.size());
  for (const PartHit& hit : hits) {
    if (hit.state == EntryState::kPresent) ids.push_back(hit.ref.id);
  }
  return ids;
}

void TieredBlockStore::Touch(std::span<const EntryId> entries) {
  core_.directory.Touch(entries);
  core_.queues.Touch(entries);
}

uint64_t TieredBlockStore::AcquireLease(std::span<const PartKey> keys, Nanos duration) {
  if (keys.empty()) return 0;
  const std::vector<EntryId> ids = PresentIds(keys);
  if (ids.size() != keys.size()) return 0;
  const BlockStoreOptions& options = core_.options();
  const auto limit = static_cast<uint64_t>(
      options.lease_share *
      static_cast<double>(options.l1_bytes + options.l2_bytes + options.l3_bytes));
  const absl::StatusOr<LeaseId> lease =
      core_.leases.Grant(keys[0].scope.tenant, ids, duration, limit);
  return lease.ok() ? *lease : 0;
}

absl::Status TieredBlockStore::RenewLease(uint64_t lease, uint64_t tenant, Nanos duration) {
  if (duration != Nanos(0)) return core_.leases.Renew(tenant, lease, duration);
  MNEMO_ASSIGN_OR_RETURN(const EndedLeases ended, core_.leases.Release(tenant, lease));
  core_.ReleaseHolds(ended.unleased);
  core_.ReleaseHolds(ended.new_leaves);
  return absl::OkStatus();
}

}  // namespace

absl::Status BlockStoreOptions::Validate() const {
  if (directory.empty()) return absl::InvalidArgumentError("directory: must not be empty");
  MNEMO_RETURN_IF_ERROR(CheckAtLeast("l1_bytes", l1_bytes, 64 * kMiB));
  if (l2_bytes != 0) MNEMO_RETURN_IF_ERROR(CheckAtLeast("l2_bytes", l2_bytes, Arena::kSlabSize));
  MNEMO_RETURN_IF_ERROR(CheckAtLeast("l3_bytes", l3_bytes, 64 * kMiB));
  MNEMO_RETURN_IF_ERROR(CheckRange("high_watermark", high_watermark, 0.1, 1.0));
  MNEMO_RETURN_IF_ERROR(CheckRange("low_watermark", low_watermark, 0.1, high_watermark));
  MNEMO_RETURN_IF_ERROR(CheckRange("promote_hits", promote_hits, 1, 10));
  MNEMO_RETURN_IF_ERROR(CheckRange("lease_share", lease_share, 0, 1));
  MNEMO_RETURN_IF_ERROR(CheckRange("pin_share", pin_share, 0, 1));
  MNEMO_RETURN_IF_ERROR(ParsePolicyKind(eviction_policy).status());
  const auto millis = [](Nanos t) { return std::chrono::duration<double, std::milli>(t).count(); };
  MNEMO_RETURN_IF_ERROR(CheckRange("wal_interval in ms", millis(wal_interval), 1, 60'000));
  return CheckRange("max_reservation in ms", millis(max_reservation), 1, 3'600'000);
}

absl::StatusOr<std::unique_ptr<BlockStore>> BlockStore::Open(const BlockStoreOptions& options,
                                                             FileSystem& files, Clock& clock,
                                                             Observer observer) {
  MNEMO_RETURN_IF_ERROR(options.Validate());
  MNEMO_ASSIGN_OR_RETURN(const PolicyKind policy, ParsePolicyKind(options.eviction_policy));
  MNEMO_ASSIGN_OR_RETURN(const Watermark watermark,
                         Watermark::Create(options.low_watermark, options.high_watermark));
  std::random_device random;
  StoreCore::Parts parts;
  parts.options = options;
  parts.policies.fill(policy);
  parts.first_lease = RandomId(random);
  MNEMO_ASSIGN_OR_RETURN(parts.data_directory,
                         DataDirectory::Open(options.directory, files, clock, RandomId(random)));
  parts.time = std::make_unique<ExpiryClock>(clock, ReadLastKnownTime(files, options.directory));
  MNEMO_ASSIGN_OR_RETURN(parts.l1, MakeRam(options.l1_bytes));
  if (options.l2_bytes != 0) {
    MNEMO_ASSIGN_OR_RETURN(parts.l2, MakeRam(options.l2_bytes));
  }
  std::vector<DiskLevels::OpenedInstance> opened;
  MNEMO_ASSIGN_OR_RETURN(parts.disks,
                         DiskLevels::Open(options, *parts.data_directory, files, clock, opened));
  auto store =
      std::make_unique<TieredBlockStore>(std::move(parts), std::move(observer), files, watermark);
  MNEMO_RETURN_IF_ERROR(store->Recover(opened));
  return store;
}

}  // namespace mnemo
