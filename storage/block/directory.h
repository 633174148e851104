// What is stored, and where: every part of every block, in RAM.
//
// An entry takes 84 bytes, its key (rounded up to 4), 5 to 10 bytes of hash
// table; with the 28 bytes of the policies' links (storage/policy) that is
// about 154 allocator bytes for a part with a 36-byte key. Tenant, space, salt
// and part ids are kept once for all parts that share them ("lanes").
//
// Thread-safe. 256 shards with one lock each; no call holds two of them, and
// nothing is called out to while one is held, but for the visitors that say so.
//
// Chains. A part knows its parent: the same part of the block before. A parent
// that is not here is represented by a placeholder, invisible to look-ups, so
// that parts may come in any order and a parent that is deleted and stored
// again finds its children. `children` counts the direct children that are
// here, pending or placeholders; an entry with none has no descendant here. A
// link holds only where the child's depth is its parent's plus one, so links
// make no cycle, whatever clients say.
//
// Life of an entry: Reserve (pending) -> Publish (present) -> Remove (gone for
// everybody) -> Recycle (its id may be used again). Between Remove and Recycle
// the caller frees what the id was used for (places, policy queues).
//
// Changes commit against a generation: a mover reads an entry, copies its bytes
// without any lock, then commits the new place, and gets kAborted if anything
// but uses and leases changed meanwhile.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/checksum.h"
#include "storage/base/clock.h"
#include "storage/base/level.h"
#include "storage/base/mutex.h"
#include "storage/block/block_key.h"
#include "storage/tier/block_level.h"

namespace mnemo {

// One state of one entry.
struct EntryRef {
  EntryId id = kNoEntry;
  uint32_t generation = 0;
  friend bool operator==(const EntryRef&, const EntryRef&) = default;
};

struct RamPlace {
  Level level = Level::kL1;  // kL1 or kL2
  Locator locator;
  uint64_t stored_bytes = 0;  // below 4 GiB
  uint8_t codec = 0;          // StoredForm, below 16
  friend bool operator==(const RamPlace&, const RamPlace&) = default;
};
struct DiskPlace {
  Level level = Level::kL3;                  // kL3 or kDisk
  Durability instance = Durability::kCache;  // the instance that holds it
  uint64_t stored_bytes = 0;                 // below 4 GiB
  uint8_t codec = 0;                         // StoredForm, below 16
  friend bool operator==(const DiskPlace&, const DiskPlace&) = default;
};

enum class EntryState : uint8_t { kAbsent = 0, kPending = 1, kPresent = 2 };

// An entry by value, as of one moment.
struct DirectoryEntry {
  EntryRef ref;
  PartKey key;
  EntryState state = EntryState::kAbsent;
  Digest128 digest;  // once present
  uint64_t payload_bytes = 0;
  uint32_t depth = 0;
  uint16_t tokens = 0;
  Durability durability = Durability::kCache;
  bool pinned = false;
  WallTime created;  // whole seconds, rounded down
  WallTime expires;  // whole seconds, rounded up; nanos 0: never
  std::optional<RamPlace> ram;
  std::optional<DiskPlace> disk;
  uint32_t leases = 0;
  uint32_t hits = 0;  // uses since it was published, up to 255
  Nanos idle{0};      // since the last use or the publishing, to 0.1 s
  EntryId parent = kNoEntry;
  uint32_t children = 0;

  // The nearest place. Requires a place.
  Level nearest() const { return ram ? ram->level : disk->level; }
};

// A part that is about to be written, or was found on disk at start.
struct NewPart {
  PartKey key;
  BlockKey parent;             // empty: none, or not known
  uint16_t parent_shard = 0;   // if there is a parent
  uint64_t payload_bytes = 0;  // exact; below 4 GiB
  uint32_t depth = 0;
  uint16_t tokens = 0;
  Durability durability = Durability::kCache;
  WallTime created;
  WallTime expires;  // nanos 0: never
};

struct Reservation {
  enum class Outcome : uint8_t {
    kReserved,  // `ref` is the writer's, until the deadline
    kPending,   // somebody else is writing or removing it
    kPresent,   // it is there, with `digest`
    kExpired,   // `ref` is there, but its time is over: Remove it, then try again
  };
  Outcome outcome = Outcome::kReserved;
  EntryRef ref;
  Digest128 digest;
};

// One answer of a bulk look-up; 24 bytes.
struct PartHit {
  EntryRef ref;  // id kNoEntry: absent
  EntryState state = EntryState::kAbsent;
  Level nearest = Level::kL1;  // if present
  bool on_disk = false;
  uint32_t payload_bytes = 0;
  uint32_t stored_bytes = 0;  // at `nearest`
};

// What fits the four bits of an entry.
inline constexpr size_t kCodecSlots = 16;

struct DirectoryUsage {
  uint64_t parts = 0;              // present
  uint64_t exact_bytes = 0;        // of the present
  uint64_t first_part_blocks = 0;  // present parts with PartId{0, 0, 0}
  uint64_t pinned_bytes = 0;       // exact
  uint64_t pending = 0;
  // A part with a place in RAM and one on disk counts at both.
  std::array<uint64_t, kLevelCount> level_parts{};
  std::array<uint64_t, kLevelCount> level_bytes{};  // as stored
  std::array<uint64_t, kLevelCount> level_exact_bytes{};
  // By the nearest place alone: these add up to `parts` and `exact_bytes`.
  std::array<uint64_t, kLevelCount> nearest_parts{};
  std::array<uint64_t, kLevelCount> nearest_exact_bytes{};
  std::array<uint64_t, kLevelCount> pinned_parts{};        // of nearest_parts
  std::array<uint64_t, kLevelCount> pinned_exact_bytes{};  // of nearest_exact_bytes
  // By StoredForm, over all places: what they take, and what they hold.
  std::array<uint64_t, kCodecSlots> codec_stored_bytes{};
  std::array<uint64_t, kCodecSlots> codec_exact_bytes{};
};

// Which entries a listing visits; all conditions hold together.
struct ListFilter {
  std::optional<uint64_t> tenant;
  std::optional<uint64_t> space;  // requires tenant
  std::optional<SaltDigest> salt;
  std::string key_prefix;
};

struct DirectoryOptions {
  uint64_t max_memory_bytes = 0;  // 0: unbounded
};

class DirectoryShard;
class LaneTable;

class Directory {
 public:
  // `clock` outlives the directory.
  Directory(const DirectoryOptions& options, const Clock& clock);
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  // --- writing

  // Makes the caller the one writer of a part that is not there. A reservation
  // whose deadline passed is taken over, and its writer's Publish is refused.
  // Errors: kInvalidArgument (an empty key, sizes, a shard), kResourceExhausted
  // (max_memory_bytes, or 2^24 entries of one shard).
  absl::StatusOr<Reservation> Reserve(const NewPart& part, MonoTime deadline);
  // Makes a reserved part visible. At least one place is given.
  // Errors: kAborted (the reservation was taken over or given up).
  absl::StatusOr<EntryRef> Publish(EntryRef reserved, const Digest128& digest,
                                   const std::optional<RamPlace>& ram,
                                   const std::optional<DiskPlace>& disk);
  // Gives a reservation up; a no-op if it is not the caller's any more.
  // `new_leaves`: as of Recycle.
  void Abandon(EntryRef reserved, std::vector<EntryId>& new_leaves);
  // Reserve and Publish in one, for parts found on disk at start.
  // Errors: kAlreadyExists, and those of Reserve.
  absl::StatusOr<EntryRef> Restore(const NewPart& part, const Digest128& digest, bool pinned,
                                   const DiskPlace& disk);

  // --- looking up; a part whose time is over is absent

  // Present or pending. Counts as no use.
  std::optional<DirectoryEntry> Find(const PartKey& key) const;
  std::optional<DirectoryEntry> Get(EntryId id) const;
  // As Get, of the entry in a slot that `random` picks, if one is there. Where `random` is uniform,
  // so is the choice among the slots of a shard, and that of the shard.
  std::optional<DirectoryEntry> InSlot(uint64_t random) const;
  // For each of `keys`, in order, into the same place of `hits`; counts as no
  // use. Keys are grouped by shard, each shard's lock taken once for at most
  // 4,096 keys of it, memory fetched ahead.
  void Lookup(std::span<const PartKey> keys, std::span<PartHit> hits) const;
  // The same for parts of many blocks; `hits` has blocks.size() of them.
  void Lookup(const BlockParts& blocks, std::span<PartHit> hits) const;
  // Every part of the block, whatever `key.part`.
  std::vector<DirectoryEntry> FindAllParts(const PartKey& key) const;
  // The entry that follows in its chain: present, and of several the one that came last.
  std::optional<DirectoryEntry> ChildOf(EntryId id) const;
  // The client's key of an entry, placeholders too.
  std::optional<BlockKey> KeyOf(EntryId id) const;
  // What goes to disk with the part: its entry and its parent's key.
  BlockMetadata MetadataOf(const DirectoryEntry& entry, uint64_t stored_bytes, uint8_t codec) const;

  // --- changing; each answers the entry's new state
  // Errors of all: kAborted (changed since `ref`, or gone).

  // A use, now, of each that is present.
  void Touch(std::span<const EntryId> ids);
  // Replaces the place; the one before, if any, is the caller's to free.
  struct RamChange {
    EntryRef ref;
    std::optional<RamPlace> previous;
  };
  struct DiskChange {
    EntryRef ref;
    std::optional<DiskPlace> previous;
  };
  absl::StatusOr<RamChange> SetRam(EntryRef ref, const RamPlace& place);
  absl::StatusOr<DiskChange> SetDisk(EntryRef ref, const DiskPlace& place);
  // Errors besides: kFailedPrecondition (it is the only place: Remove it).
  absl::StatusOr<RamChange> ClearRam(EntryRef ref);
  absl::StatusOr<DiskChange> ClearDisk(EntryRef ref);
  absl::StatusOr<EntryRef> SetPinned(EntryRef ref, bool pinned);
  absl::StatusOr<EntryRef> SetExpiry(EntryRef ref, WallTime expires);

  // Leases keep an entry from being evicted; no new generation.
  // Answers the exact bytes; none if it is not present, another tenant's, or has
  // 32,767 leases.
  std::optional<uint64_t> AddLease(EntryId id, uint64_t tenant);
  // One AddLease less. True if that was the last: a policy's hold may go.
  bool DropLease(EntryId id, std::vector<EntryId>& new_leaves);

  // --- removing

  enum class RemoveWhen : uint8_t {
    kAlways,    // its owner said so, it expired, or it is damaged
    kEvictable  // only if class kCache or expired, not pinned, not leased, no children
  };
  // Takes a present entry out of sight. The answer has its places, which are the
  // caller's to free; then Recycle.
  // Errors besides: kFailedPrecondition (not evictable; the message says why).
  absl::StatusOr<DirectoryEntry> Remove(EntryRef ref, RemoveWhen when);
  // After Remove, once nothing uses the id. Appends to `new_leaves` the present
  // entries that lost their last child: a policy's hold on those may go.
  void Recycle(EntryId id, std::vector<EntryId>& new_leaves);

  // --- walking

  // Present entries in the order of their stored keys, after `after` (a stored
  // key's bytes; empty: from the first), at most `limit`. Each page is what was
  // there at one moment of each shard; entries that stay throughout are seen
  // once. `after` becomes the last visited, or empty at the end. O(entries of
  // the shards touched).
  std::vector<DirectoryEntry> List(const ListFilter& filter, std::string& after,
                                   size_t limit) const;
  // Looks at `slots` slots, but no more than once around, from `cursor` on (0 at
  // first, wraps around) and
  // answers present entries whose time is over. Reservations whose deadline
  // passed are given up on the way; `new_leaves`: as of Recycle.
  std::vector<EntryRef> Expired(uint64_t& cursor, size_t slots, std::vector<EntryId>& new_leaves);

  // --- counting

  DirectoryUsage Usage(KeyScope scope) const;
  DirectoryUsage TenantUsage(uint64_t tenant) const;
  DirectoryUsage TotalUsage() const;
  std::array<uint64_t, kShardCount> ExactBytesByShard() const;
  // Bytes asked from the allocator.
  uint64_t MemoryBytes() const;

 private:
  struct Probe;

  // Answers probes, sorted by shard in `scratch`, which is as large.
  void Answer(std::span<const Probe> probes, std::span<Probe> scratch,
              std::span<PartHit> hits) const;
  static void AnswerInShard(const DirectoryShard& shard, std::span<const Probe> probes,
                            WallTime wall, std::span<PartHit> hits);
  DirectoryShard& ShardOfId(EntryId id) const;
  absl::Status CheckNew(const NewPart& part) const;
  // Reserve without the parent. `fresh`: the entry has no parent link yet.
  // `orphaned`: a link that is to be undone without the lock.
  absl::StatusOr<Reservation> ReserveEntry(const NewPart& part, uint32_t lane, MonoTime deadline,
                                           bool& fresh, EntryId& orphaned);
  // Finds or makes the parent's entry, and counts a child there; kNoEntry where
  // no link may be.
  absl::StatusOr<EntryId> LinkParent(const NewPart& part, uint32_t lane, EntryId child);
  void UnlinkParent(EntryId parent, std::vector<EntryId>& new_leaves);
  // The same where nobody asks for new leaves: Expired hands them out.
  void UnlinkParentQuietly(EntryId parent);
  // Both require the shard's lock. A new entry, counted in memory_.
  absl::StatusOr<uint32_t> InsertEntry(DirectoryShard& shard, uint64_t hash, uint32_t lane,
                                       std::string_view key);
  DirectoryEntry Snapshot(DirectoryShard& shard, EntryId id) const;
  uint32_t NowTicks() const;

  const DirectoryOptions options_;
  const Clock& clock_;
  const MonoTime started_;
  const std::unique_ptr<LaneTable> lanes_;
  std::atomic<uint64_t> memory_;  // of the shards
  Mutex quiet_mutex_;             // innermost
  std::vector<EntryId> quiet_leaves_ ABSL_GUARDED_BY(quiet_mutex_);
  // One lock each, inside; taken before that of lanes_.
  std::array<std::unique_ptr<DirectoryShard>, kShardCount> shards_;
};

}  // namespace mnemo
