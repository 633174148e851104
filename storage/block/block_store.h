// KV block parts through the four levels.
//
// Composes the directory, the RAM levels, the RocksDB instances of each
// durability class, leases and the policies. Knows parts and chains, not
// requests: geometry, salts and the meaning of groups belong to the engine
// above.
//
// Life of a part: BeginWrite reserves it (PENDING to others) and takes L1
// extents; the caller fills them; Commit checks the digest, seals the
// envelope, makes it as durable as asked, and publishes it. It then moves by
// watermarks (MoveStep), comes nearer on hits, and is dropped only if its
// class is kCache and it is neither pinned nor leased.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/file_system.h"
#include "storage/block/block_key.h"
#include "storage/codec/envelope_excerpt.h"
#include "storage/tier/block_level.h"
#include "storage/tier/store.h"

namespace mnemo {

struct Space;

// Where the sections of a part begin and end, in its exact bytes: contiguous,
// in order, adding up to its size. From the space's geometry.
struct SectionLayout {
  std::vector<uint64_t> sizes;
  uint8_t dtype_bytes = 1;  // width of a value, for the lossless codec; 1, 2 or 4
};

struct WriteSpec {
  uint64_t payload_bytes = 0;  // 1 to kMaxPartBytes
  SectionLayout layout;
  uint32_t depth = 0;
  uint16_t tokens = 0;
  BlockKey parent;  // empty: none, or not known
  Durability durability = Durability::kCache;
  WallTime expires;                    // nanos 0: never
  std::optional<Digest128> digest;     // bytes with another are refused
  bool lossless_codec_allowed = true;  // below L1
};
inline constexpr uint64_t kMaxPartBytes = 64 << 20;

// Everything known of a part, by value.
struct PartState {
  PartKey key;
  Digest128 digest;
  uint64_t payload_bytes = 0;
  uint64_t stored_bytes = 0;  // at `level`
  Level level = Level::kL1;   // the nearest that holds it
  bool on_disk = false;       // a copy lies on L3 or Disk
  Level disk_level = Level::kL3;
  uint32_t depth = 0;
  uint16_t tokens = 0;
  std::string codec;   // at `level`: "raw", "lossless", "rotated4" ...
  bool lossy = false;  // at `level`
  BlockKey parent;
  Durability durability = Durability::kCache;
  bool pinned = false;
  bool leased = false;
  bool pending = false;
  bool below_floor = false;  // all copies are: reads miss it, and a put replaces it
  WallTime created;
  WallTime expires;
  uint64_t uses = 0;
  Nanos idle{0};
  std::string_view rule;  // static string: what put it there, e.g. "admitted-on-put"
};

enum class Presence : uint8_t { kAbsent, kPending, kPresent };
struct Lookup {
  Presence presence = Presence::kAbsent;
  Level level = Level::kL1;
  EntryId entry = kNoEntry;  // unless absent; of another part once this one is gone
  uint64_t payload_bytes = 0;
};

// Why a part is brought into RAM ahead of use.
enum class PrefetchOrigin : uint8_t { kAsked, kFollowed };
inline constexpr size_t kPrefetchOrigins = 2;

// What came of it.
enum class PrefetchOutcome : uint8_t {
  kBrought,  // it lies in L1 now
  kInRam,    // it lay in RAM already
  kAbsent,   // there is no such part, or it is still being written
  kNoRoom,   // L1 has none for it below the high watermark
  kBusy,     // it changed meanwhile
  kFailed,   // its bytes could not be read: a read will say why
};
inline constexpr size_t kPrefetchOutcomes = 6;

// What happened to a part; handed to the observer without any lock held.
// Events of one part come in order.
struct PartEvent {
  enum class Kind : uint8_t { kStored, kMoved, kRemoved };
  Kind kind = Kind::kStored;
  PartKey key;
  uint32_t depth = 0;
  Level level = Level::kL1;  // the nearest level now
};

// A part being written. Not thread-safe. Destroying it without Commit gives
// everything back, as if it had never begun.
class PartWriter {
 public:
  virtual ~PartWriter() = default;
  // The next bytes of the payload, in order. Errors: kInvalidArgument (more
  // than payload_bytes).
  virtual absl::Status Append(ByteView bytes) = 0;
  // Some of the next `most` bytes: `bring` writes as many as it has into the memory that
  // it is given, piece after piece, and answers how many; they are checked from there, so
  // nobody else may write to it. Answers the same. Errors: those of Append; of `bring`,
  // and then the part can only be given up.
  using Bring = std::function<absl::StatusOr<uint64_t>(std::span<const MutableByteView> to)>;
  virtual absl::StatusOr<uint64_t> Fill(uint64_t most, const Bring& bring) = 0;
  virtual uint64_t received() const = 0;
  // Publishes the part, and returns its digest. Blocks until it is as durable
  // as its class asks. Errors: kInvalidArgument (fewer bytes than announced),
  // kDataLoss (another digest than announced), kResourceExhausted (the disk is
  // full), kUnavailable; nothing is stored then.
  virtual absl::StatusOr<Digest128> Commit() = 0;
};

// How far the bytes of a part are from those that were put.
struct PartFidelity {
  std::string codec;          // as PartState
  double bits_per_value = 0;  // everything stored of the payload counted
  float error = 0;            // |x' - x| / |x| over the part's values, exact tokens left out
  friend bool operator==(const PartFidelity&, const PartFidelity&) = default;
};

// Bytes of a part being read, verified by section.
struct PartRead {
  Digest128 digest;                      // of the bytes that were put: names the part
  std::optional<PartFidelity> fidelity;  // none: `bytes` are as they were put
  // Of `bytes`, where they are encoded, or the whole part with a fidelity.
  std::optional<Digest128> given_digest;
  bool encoded = false;        // `bytes` are an excerpt of the part's envelope
  uint64_t payload_bytes = 0;  // of the whole part
  Level level = Level::kL1;    // where they were read from
  uint32_t depth = 0;
  bool followed = false;  // brought by kFollowed, and read for the first time since
  PinnedBytes bytes;      // of the sections asked for, in order
  uint64_t offset = 0;    // of `bytes` in the whole part, if contiguous
};

// Where a read brings a part's bytes, piece by piece. Outlives the read.
class PartSink {
 public:
  virtual ~PartSink() = default;
  // What comes, and how many bytes of it; `part.bytes` is empty. Once, and again where a
  // copy turned out to be damaged and another one is read, from the beginning. An error
  // ends the read, and is its answer.
  virtual absl::Status Begin(const PartRead& part, uint64_t bytes) = 0;
  // Bytes from `offset` on of those asked for, checked just now; they may be kept. Called by
  // the work of ForEach. An error ends the read, and is its answer.
  virtual absl::Status Take(uint64_t offset, const PinnedBytes& bytes) = 0;
  // Runs work(0) to work(count - 1), on this thread or on several; all have ended when it
  // returns.
  virtual void ForEach(size_t count, const std::function<void(size_t)>& work) {
    for (size_t i = 0; i < count; ++i) work(i);
  }
};

// What is read, or being read, of a part before its reader comes to it. Lets go of it.
class PartAhead {
 public:
  virtual ~PartAhead() = default;
};

// How far the parts of a space have been looked through since its policy changed.
struct Reencoding {
  bool under_way = false;  // or about to begin
  uint64_t looked_at = 0;  // parts
  uint64_t parts = 0;      // of so many, as it began
};

struct LevelFigures {
  LevelStats stats;
  uint64_t parts = 0;                // that lie here; one in RAM and on disk counts at both
  uint64_t exact_bytes = 0;          // of these
  uint64_t nearest_parts = 0;        // whose nearest level this is
  uint64_t nearest_exact_bytes = 0;  // of these
  uint64_t pinned_parts = 0;         // of `nearest_parts`
  uint64_t pinned_exact_bytes = 0;   // of `nearest_exact_bytes`
  uint64_t lookups = 0;              // of what the node held at this level or below
  uint64_t hits = 0;
  uint64_t demoted = 0;
  uint64_t promoted = 0;
  uint64_t evicted = 0;
};

struct ScopeUsage {
  uint64_t parts = 0;
  uint64_t bytes = 0;                               // exact
  uint64_t first_group_blocks = 0;                  // distinct blocks of group 0, rank (0, 0)
  std::array<uint64_t, kLevelCount> level_bytes{};  // as stored
};

// What lies encoded by one codec now, at all levels.
struct CodecFigures {
  std::string codec;          // as PartState
  uint64_t stored_bytes = 0;  // not 0
  uint64_t exact_bytes = 0;
  // Of a lossy one: mean |x' - x| / |x| over the latest `samples` parts that were drawn
  // from what lies here. None before the first.
  std::optional<double> error;
  uint64_t samples = 0;
};

// How long dropped parts had not been used: a histogram. Only grows.
struct IdleHistogram {
  // A part idle for at most limits[i], and longer than the limit before, counts
  // in counts[i]; the last holds the rest.
  static constexpr std::array<std::chrono::seconds, 9> kLimits = {
      std::chrono::seconds(1),  std::chrono::seconds(10), std::chrono::minutes(1),
      std::chrono::minutes(10), std::chrono::hours(1),    std::chrono::hours(6),
      std::chrono::hours(24),   std::chrono::hours(72),   std::chrono::hours(168)};
  std::array<uint64_t, kLimits.size() + 1> counts{};
  Nanos sum{0};
};

// Counters of what went wrong or was repaired. Only grow.
struct BlockStoreCounters {
  uint64_t corrupt_l1 = 0, corrupt_l2 = 0, corrupt_l3 = 0, corrupt_archive = 0;
  uint64_t refused_puts = 0;
  uint64_t write_behind = 0;  // cache parts admitted to disk
  uint64_t write_behind_skipped = 0;
  uint64_t expired = 0;
  uint64_t below_floor = 0;  // copies dropped, kept below a floor that was raised
  uint64_t reencoded = 0;    // copies brought into another form where they lay
  // Parts that were brought ahead of use and then read from RAM; the first read counts.
  std::array<uint64_t, kPrefetchOrigins> prefetched_used{};
  // Of parts that a level dropped for want of room: as many as `evicted` of the
  // levels together.
  IdleHistogram idle_before_evict;
};

struct BlockStoreOptions {
  std::string directory;          // the data directory
  uint64_t l1_bytes = 0;          // arena of exact bytes; at least 64 MiB
  uint64_t l2_bytes = 0;          // arena of encoded bytes; 0: no L2
  uint64_t disk_cache_bytes = 0;  // block cache and memtables; an eighth is for reading ahead
  uint64_t l3_bytes = 0;          // at least 64 MiB
  uint64_t archive_bytes = 0;     // 0: no Disk level
  double high_watermark = 0.95;   // parts move on above this share of a level
  double low_watermark = 0.90;    // until this one
  uint32_t promote_hits = 2;      // uses at a farther level before it comes nearer; 1 to 10
  std::string eviction_policy = "s3fifo";  // s3fifo, sieve, lru
  Nanos wal_interval = std::chrono::milliseconds(100);
  bool direct_reads = false;
  Nanos max_reservation = std::chrono::seconds(60);
  double lease_share = 0.25;  // of l1_bytes + l2_bytes + l3_bytes, for each tenant
  double pin_share = 0.5;
  // What changes behaviour is checked here, each error naming field and range.
  absl::Status Validate() const;
};

// Thread-safe. Calls that read or write disk block; the caller brings the
// threads. No lock is held across RocksDB or the observer.
class BlockStore {
 public:
  using Observer = std::function<void(const PartEvent&)>;
  struct Recovery {
    uint64_t parts = 0;
    bool clean = true;
    std::string detail;  // for people; empty if clean
  };

  // Opens the data directory, makes it if it is empty, and rebuilds the
  // directory from metadata. Errors: kFailedPrecondition (another format
  // version), kUnavailable (locked by another process), kDataLoss (metadata is
  // damaged beyond what recovery mends; nothing was dropped).
  static absl::StatusOr<std::unique_ptr<BlockStore>> Open(const BlockStoreOptions& options,
                                                          FileSystem& files, Clock& clock,
                                                          Observer observer);
  virtual ~BlockStore() = default;

  // Where spaces are found, null where there is none: their geometry and policy say what
  // parts may be encoded in. Until it is called, all is kept exact. Once, before other
  // threads are here; `find` is called by any thread, and outlives the store's use.
  using FindSpace = std::function<std::shared_ptr<const Space>(KeyScope)>;
  virtual void UseSpaces(FindSpace find) = 0;
  // The space's policy changed: its parts are looked through by MoveStep, and brought
  // into the form that it asks for now.
  virtual void SpaceChanged(KeyScope scope) = 0;
  virtual Reencoding ReencodingOf(KeyScope scope) const = 0;
  // Parts of all spaces that are still to be looked at.
  virtual uint64_t ReencodingPartsLeft() const = 0;

  virtual const Recovery& recovery() const = 0;
  virtual const std::string& node_id() const = 0;
  // State of spaces, tenants and pins, class kSync, in the same log.
  virtual Store& state() = 0;
  // The ordered store of a level (kL3 or kDisk) and class; null where the node
  // has no such level.
  virtual Store* ordered_store(Level level, Durability durability) = 0;
  // Embeddings of contexts take so many bytes of archive_bytes; what was said
  // before is void. Parts have the rest.
  virtual void CountContexts(uint64_t archive_bytes) = 0;
  // What neither parts nor contexts take of archive_bytes.
  virtual uint64_t archive_free_bytes() const = 0;

  // Writing. Errors: kAlreadyExists (present), kAborted (pending),
  // kResourceExhausted (no room that may be made), kInvalidArgument.
  virtual absl::StatusOr<std::unique_ptr<PartWriter>> BeginWrite(const PartKey& key,
                                                                 const WriteSpec& spec) = 0;

  // What is there, for any number of keys, in their order. Counts as no use.
  virtual std::vector<Lookup> Find(std::span<const PartKey> keys) const = 0;
  virtual std::vector<Lookup> Find(const BlockParts& blocks) const = 0;
  // A use of parts of one chain, in the order root to leaf. By entry: just found, so
  // that one whose part went meanwhile costs another part a use too many, at most.
  virtual void Touch(std::span<const PartKey> keys) = 0;
  virtual void Touch(std::span<const EntryId> entries) = 0;
  virtual std::optional<PartState> Describe(const PartKey& key) const = 0;

  // Reads sections [first, first + count) of a part, verified; count 0: all from
  // `first` on. Counts as a use. Errors: kNotFound, kDataLoss (damaged; the
  // part is gone from this level, and a later read finds another copy or
  // misses), kInvalidArgument (no such section).
  virtual absl::StatusOr<PartRead> Read(const PartKey& key, uint32_t first, uint32_t count) = 0;
  // The same, and brings the bytes to `sink`, each piece right after it was checked, while
  // the processor still has it at hand. After an error the sink has some of them, or none.
  virtual absl::StatusOr<PartRead> ReadInto(const PartKey& key, uint32_t first, uint32_t count,
                                            PartSink& sink) = 0;
  // Begins to read a part that lies on disk alone, on a thread of the store's: a read of it
  // that comes before the answer is destroyed takes what was read, and checks it as ever.
  // Null: it is read when it is its turn, since it lies in RAM or is absent, or others have
  // what there is for it. Does not block, and is not a use. The store outlives the answer.
  virtual std::unique_ptr<PartAhead> ReadAhead(const PartKey& key) = 0;

  // The parts that follow this one in its chain as their writers named it, where it
  // branches on the branch that was written last: at most `count`, up to the first that is not
  // here. Counts as no use.
  struct ChainPart {
    PartKey key;
    uint64_t payload_bytes = 0;
    bool in_ram = false;
  };
  virtual std::vector<ChainPart> Following(const PartKey& key, size_t count) const = 0;
  // Brings a part from disk into L1 ahead of use, where there is room: nothing leaves L1
  // for it, and no use is counted. Blocks on the disk. Takes memory for one part. L1 goes
  // beyond its high watermark by what other threads bring at the same time, at most.
  virtual PrefetchOutcome Prefetch(const PartKey& key, PrefetchOrigin origin) = 0;
  // The sections of `runs` as they lie, for a reader who decodes what `takes` names: an
  // EnvelopeExcerpt, verified. None where what lies there is exact, has sections of another
  // codec, or would not get smaller by it: it is read by Read then. Counts as a use where
  // there is an answer. `runs` as for ExcerptOf. Errors: as Read.
  virtual absl::StatusOr<std::optional<PartRead>> ReadEncoded(const PartKey& key,
                                                              std::span<const SectionRun> runs,
                                                              CodecMask takes) = 0;
  // What a section of the space's parts may name as its calibration. Errors: kNotFound (no
  // group of the space was ever calibrated so); those of Store; kDataLoss.
  virtual absl::StatusOr<std::string> CalibrationOf(KeyScope scope, uint32_t id) = 0;

  // Deletes parts; logged unless never written. Durable for kSync parts.
  // Returns how many were there.
  virtual absl::StatusOr<uint64_t> Erase(std::span<const PartKey> keys) = 0;
  // Deletes all of a space, or all of one salt of it.
  virtual absl::StatusOr<uint64_t> EraseScope(KeyScope scope,
                                              const std::optional<SaltDigest>& salt) = 0;

  // Pins survive a restart: the part is on disk, synced, when this returns.
  // Returns how many parts changed. Errors: kResourceExhausted (pin_share).
  virtual absl::StatusOr<uint64_t> SetPinned(std::span<const PartKey> keys, bool pinned) = 0;

  // Leased parts stay at some level until the lease ends. Returns 0 if the
  // tenant's share is used up or a key is absent.
  virtual uint64_t AcquireLease(std::span<const PartKey> keys, Nanos duration) = 0;
  // Errors: kNotFound. A duration of 0 releases.
  virtual absl::Status RenewLease(uint64_t lease, uint64_t tenant, Nanos duration) = 0;

  // Visits parts of a space in the order of stored keys, from `after`
  // (exclusive; empty: from the first) on.
  virtual absl::Status List(KeyScope scope, const std::optional<SaltDigest>& salt,
                            std::string_view key_prefix, const std::string& after, size_t limit,
                            std::vector<PartState>& parts, std::string& next) const = 0;

  // Writes cache parts of `scope` (space 0: of the whole tenant; tenant 0: of
  // everybody) to disk and syncs all classes. Returns how many were written.
  virtual absl::StatusOr<uint64_t> Flush(KeyScope scope) = 0;

  // One bounded step of background movement: demotion by watermarks, admission
  // to disk, expiry, ended leases, space reclaimed. Returns true if more is to
  // do now. Called by the workers.
  virtual bool MoveStep() = 0;
  // Blocks until there may be work for MoveStep, until `timeout`, or until
  // WakeMovers is called.
  virtual void WaitForWork(Nanos timeout) = 0;
  virtual void WakeMovers() = 0;

  virtual std::array<LevelFigures, kLevelCount> Levels() const = 0;
  virtual ScopeUsage Usage(KeyScope scope) const = 0;
  virtual uint64_t parts() const = 0;
  virtual BlockStoreCounters counters() const = 0;
  // Codecs that something is stored by, in the order of their ids.
  virtual std::vector<CodecFigures> Codecs() const = 0;
  virtual std::array<uint64_t, kShardCount> BytesByShard() const = 0;

  // Writes what is admitted, syncs, closes. No other call may run or follow.
  virtual absl::Status Close() = 0;
};

}  // namespace mnemo
