// Operations on blocks: geometry, salts, reservations, the match of groups.
//
// Semantics and errors are those of proto/mnemo/v1/block.proto; the structs
// here mirror its messages field by field without protobuf.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/engine/call.h"
#include "server/engine/chain_follower.h"
#include "server/engine/engine_observer.h"
#include "server/engine/event_hub.h"
#include "server/engine/prefetch_queue.h"
#include "server/engine/reservations.h"
#include "server/engine/space_engine.h"
#include "storage/block/block_store.h"

namespace mnemo {

inline constexpr size_t kMaxKeysPerCall = 65536;
inline constexpr size_t kMaxPartsPerOffer = 4096;
inline constexpr size_t kMaxPartsPerPut = 1024;
inline constexpr uint64_t kMaxBytesPerPut = uint64_t{1} << 30;
inline constexpr size_t kMaxPartsPerGet = 16384;
inline constexpr size_t kMaxKeysPerGet = 4096;
inline constexpr size_t kMaxPartsPerKey = 1024;  // of a Get
inline constexpr size_t kMaxSaltBytes = 128;

// Keys of one call. Views into the request, which outlives the call.
struct KeysView {
  std::vector<std::string_view> keys;
  std::vector<std::string_view> stretches;  // as many as keys, or none
};

struct PartOffer {
  std::string_view key;
  PartId part;
  uint64_t size = 0;
  uint32_t depth = 0;
  std::string_view parent;
  std::string_view stretch;
  std::optional<Digest128> digest;
};

enum class Verdict : uint8_t { kWant = 1, kPresent = 2, kPending = 3, kRefused = 4 };
struct OfferVerdict {
  Verdict verdict = Verdict::kRefused;
  absl::Status reason;
  std::optional<Digest128> digest;
};

struct OfferAnswer {
  std::vector<OfferVerdict> verdicts;
  uint64_t reservation = 0;
};

enum class PutOutcome : uint8_t { kStored = 1, kAlreadyPresent = 2, kConflict = 3 };
struct PutResult {
  uint32_t index = 0;
  absl::StatusOr<PutOutcome> outcome = absl::UnknownError("");
  Digest128 digest;
};

struct PutRequest {
  SpaceRef space;
  std::string_view salt;
  std::vector<PartOffer> parts;
  uint64_t reservation = 0;
  std::optional<Durability> durability;
  uint64_t time_to_live_seconds = 0;
};

// A Put in progress. Not thread-safe. Its payload memory is the store's own
// (L1 extents), taken part by part as Data for it arrives, so that a stream
// that never sends holds none.
class PutSession {
 public:
  virtual ~PutSession() = default;  // whole parts stay, the rest is given back
  // One for each part of the request; valid at once.
  virtual const std::vector<OfferVerdict>& verdicts() const = 0;
  // Results of the parts that are not wanted, once; then empty.
  virtual std::vector<PutResult> TakeImmediateResults() = 0;
  // Payload in the order of wanted parts, pieces of a part in order. Commits a
  // part when its last byte is in (which may block on the disk); the result is
  // then in `results`. Errors of the stream as a whole: kInvalidArgument (out of order,
  // past the end, an index that was not wanted, an empty piece or one over 1 MiB).
  virtual absl::Status Data(uint32_t index, uint64_t offset, ByteView data,
                            std::vector<PutResult>& results) = 0;
  // The whole payload of the next wanted part: `copy` brings the bytes of the part from
  // `offset` on into the store's memory, where they are checked. Whatever goes wrong
  // with the part, or with the copy, is its result, and the session goes on. Errors:
  // kInvalidArgument (another part than the next one); kCancelled, kDeadlineExceeded.
  using CopyIn = std::function<absl::Status(uint64_t offset, std::span<const MutableByteView> to)>;
  virtual absl::Status Fill(uint32_t index, const CopyIn& copy,
                            std::vector<PutResult>& results) = 0;
  // The same for payload that comes when its sender likes. Makes room for the next wanted
  // part, and answers which it is; none: all have been ended. May block until there is room.
  virtual std::optional<uint32_t> BeginNext() = 0;
  // Some of the next `most` bytes of the part that was begun, which has so many left, as
  // PartWriter::Fill takes them; a part that there is no room for has them dropped. Does
  // not block. Errors: those of `bring`.
  virtual absl::StatusOr<uint64_t> FillSome(uint64_t most, const PartWriter::Bring& bring) = 0;
  // Commits the part that was begun, all of whose bytes are there. May block on the disk.
  virtual void EndPart(std::vector<PutResult>& results) = 0;
  // Payload bytes of all wanted parts.
  virtual uint64_t bytes_wanted() const = 0;
  virtual uint64_t bytes_received() const = 0;
  // The client has ended its stream. Parts that are not complete get a result
  // of kInvalidArgument ("stream ended after N of M bytes").
  virtual void Finish(std::vector<PutResult>& results) = 0;
};

struct MatchRequest {
  SpaceRef space;
  std::string_view salt;
  KeysView keys;
  std::vector<uint32_t> groups;
  std::vector<uint32_t> tp_ranks;
  std::vector<uint32_t> pp_ranks;
  uint32_t lease_ms = 0;
  bool want_bitmap = false;
  bool peek = false;
};
struct MatchAnswer {
  struct Run {
    uint32_t first = 0;
    uint32_t count = 0;
    Level level = Level::kL1;
  };
  struct GroupReach {
    uint32_t group = 0;
    uint32_t blocks = 0;
  };
  uint32_t blocks = 0;
  uint64_t tokens = 0;
  std::vector<Run> runs;
  std::vector<uint32_t> pending;
  std::string present;  // bitmap, if asked for
  uint64_t lease = 0;
  uint32_t lease_ms = 0;
  uint64_t fetch_bytes = 0;
  std::vector<GroupReach> groups;
};

enum class ReadOrder : uint8_t { kBlockMajor = 1, kLayerMajor = 2 };
struct GetRequest {
  SpaceRef space;
  std::string_view salt;
  KeysView keys;
  std::vector<PartId> parts;  // empty: group 0, ranks 0
  uint32_t first_layer = 0;
  uint32_t layer_count = 0;
  ReadOrder order = ReadOrder::kBlockMajor;
  uint64_t lease = 0;
  CodecMask takes = 0;  // what the reader decodes himself; not for kLayerMajor
};

// One step of a read: a header, or bytes that stay valid while `bytes` lives.
struct ReadStep {
  enum class Kind : uint8_t { kHeader, kData };
  Kind kind = Kind::kHeader;
  uint32_t index = 0;
  // Header.
  absl::Status error;  // not ok: nothing follows of this part
  uint64_t size = 0;
  Digest128 digest;                      // of the part as it is answered; 0 where that is not known
  std::optional<PartFidelity> fidelity;  // none: as it was put
  Digest128 put_digest;
  Level level = Level::kL1;
  uint64_t bytes_following = 0;
  uint32_t depth = 0;
  bool encoded = false;          // an excerpt of its envelope follows; `digest` is of that
  std::vector<SectionRun> runs;  // that it has; none: all
  // Data: the runs [offset, offset + bytes.size()) of the part, or of the excerpt.
  uint64_t offset = 0;
  PinnedBytes bytes;
};

// Where a read brings parts, piece by piece. Of one session; outlives it.
class ReadSink {
 public:
  virtual ~ReadSink() = default;
  // The header of a part, before its bytes; again if they come anew, from the beginning.
  // An error is the part's answer, and none of its bytes come.
  virtual absl::Status Begin(const ReadStep& header) = 0;
  // Bytes of the part, `position` bytes behind the first that was asked for; they may be
  // kept. Called by the work of ForEach. An error is the part's answer.
  virtual absl::Status Take(uint32_t index, uint64_t position, const PinnedBytes& bytes) = 0;
  // The part has ended: all of its bytes were taken, or why not.
  virtual void End(uint32_t index, const absl::Status& status) = 0;
  // As PartSink::ForEach.
  virtual void ForEach(size_t count, const std::function<void(size_t)>& work) {
    for (size_t i = 0; i < count; ++i) work(i);
  }
};

// A read in progress. Not thread-safe. Pins at most one part at a time for
// kBlockMajor; for kLayerMajor reads each layer of a part when it is its turn,
// and answers kAborted for a part whose digest or fidelity changed in between.
class GetSession {
 public:
  virtual ~GetSession() = default;
  // How many bytes the next step takes into RAM or pins there, at most; 0 when it
  // is at hand already. The caller claims them first, and releases them when it
  // has let go of the steps before. Never blocks on the disk.
  virtual uint64_t NextBytes() const = 0;
  // Whether the next step needs no disk, by what is known now: it may have moved when
  // it is read.
  virtual bool NextIsInRam() const = 0;
  // The next step, or none at the end. Blocks on the disk. Errors end the
  // read: kDeadlineExceeded, kCancelled.
  virtual absl::StatusOr<std::optional<ReadStep>> Next() = 0;
  // The next part as a whole, to `sink`, each piece right after it was checked; false at
  // the end. Of kBlockMajor reads, and in place of Next. Blocks and fails as Next does.
  virtual absl::StatusOr<bool> NextInto(ReadSink& sink) = 0;
};

struct DeleteRequest {
  SpaceRef space;
  std::string_view salt;
  enum class What : uint8_t { kKeys, kAllOfSalt, kAllOfSpace };
  What what = What::kKeys;
  KeysView keys;
};

struct KeysRequest {
  SpaceRef space;
  std::string_view salt;
  KeysView keys;
};

struct PrefetchRequest {
  SpaceRef space;
  std::string_view salt;
  KeysView keys;              // may be empty with `cancel`
  std::vector<PartId> parts;  // empty: all of the space
  uint64_t cancel = 0;
};
struct PrefetchAnswer {
  uint64_t prefetch = 0;
  // Parts, by what is known now.
  uint32_t queued = 0;
  uint32_t in_ram = 0;
  uint32_t absent = 0;
  uint32_t dropped = 0;
};

struct ListRequest {
  SpaceRef space;
  std::optional<std::string_view> salt;
  std::string_view key_prefix;
  uint32_t page_size = 0;
  std::string_view page_token;
};

struct PinAnswer {
  uint64_t parts = 0;
  std::vector<uint32_t> missing;
};

// Thread-safe. Calls block on disk; the caller brings the threads.
class BlockEngine {
 public:
  BlockEngine(const SpaceEngine& spaces, BlockStore& store, EventHub& events, Clock& clock,
              EngineObserver& observer, const PrefetchOptions& prefetch = {});

  absl::StatusOr<OfferAnswer> Offer(const CallContext& call, const SpaceRef& space,
                                    std::string_view salt, std::span<const PartOffer> parts,
                                    uint32_t reservation_ms);
  // `call` outlives the session.
  absl::StatusOr<std::unique_ptr<PutSession>> Put(const CallContext& call,
                                                  const PutRequest& request);
  absl::StatusOr<MatchAnswer> Match(const CallContext& call, const MatchRequest& request);
  // `call` outlives the session; the views in `request` need not.
  absl::StatusOr<std::unique_ptr<GetSession>> Get(const CallContext& call,
                                                  const GetRequest& request);
  absl::StatusOr<uint64_t> Delete(const CallContext& call, const DeleteRequest& request);
  absl::StatusOr<uint32_t> Touch(const CallContext& call, const KeysRequest& request);
  // Says which parts to bring into RAM: threads that take from prefetches() do it.
  absl::StatusOr<PrefetchAnswer> Prefetch(const CallContext& call, const PrefetchRequest& request);
  absl::StatusOr<PinAnswer> Pin(const CallContext& call, const KeysRequest& request);
  absl::StatusOr<uint64_t> Unpin(const CallContext& call, const KeysRequest& request);
  // Returns the milliseconds granted.
  absl::StatusOr<uint32_t> Renew(const CallContext& call, uint64_t lease, uint32_t lease_ms);
  absl::StatusOr<std::vector<PartState>> Describe(const CallContext& call,
                                                  const KeysRequest& request) const;
  absl::StatusOr<std::vector<PartState>> List(const CallContext& call, const ListRequest& request,
                                              std::string& next) const;
  absl::StatusOr<uint64_t> Flush(const CallContext& call, const std::optional<SpaceRef>& space);
  absl::StatusOr<std::unique_ptr<EventSubscription>> Watch(const CallContext& call,
                                                           const SpaceRef& space,
                                                           uint64_t from_sequence,
                                                           std::function<void()> wake);

  // Ends reservations whose time has passed; called by a worker.
  void ExpireReservations() { reservations_.Expire(); }
  PrefetchQueue& prefetches() { return prefetches_; }

 private:
  const SpaceEngine& spaces_;
  BlockStore& store_;
  EventHub& events_;
  Clock& clock_;
  EngineObserver& observer_;
  Reservations reservations_;
  PrefetchQueue prefetches_;
  ChainFollower follower_;
};

}  // namespace mnemo
