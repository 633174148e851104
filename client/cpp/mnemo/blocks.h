// Requests and answers of the block service.
//
// Views in a request (keys, salts, stretches) need live only until the
// function that takes the request returns. Payload and destinations are
// borrowed until the call is done.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "mnemo/memory.h"
#include "mnemo/types.h"

namespace mnemo::client {

// A part, before its bytes move.
struct PartOffer {
  std::string_view key;
  PartId part;
  uint64_t size = 0;
  uint32_t depth = 0;
  std::string_view parent = {};
  std::string_view stretch = {};
  // With it, a part that is here with other bytes is a conflict.
  std::optional<Digest> digest = std::nullopt;
};

struct OfferRequest {
  SpaceRef space;
  std::string_view salt = {};
  std::vector<PartOffer> parts;  // 1 to 4,096
  uint32_t reservation_ms = 0;
};

struct OfferVerdict {
  Verdict verdict = Verdict::kUnspecified;
  absl::Status reason;  // for kRefused
  Digest digest;        // for kPresent
};

struct OfferResult {
  std::vector<OfferVerdict> verdicts;  // one for each part of the request
  uint64_t reservation = 0;
  Plane plane = Plane::kInline;  // that was taken
};

// A part with its bytes.
struct PartPut {
  std::string_view key;
  PartId part;
  Bytes data;  // unchanged until the call is done
  uint32_t depth = 0;
  std::string_view parent = {};
  std::string_view stretch = {};
};

struct PutRequest {
  SpaceRef space;
  std::string_view salt = {};
  std::vector<PartPut> parts;  // 1 to 1,024; at most 1 GiB in all
  uint64_t reservation = 0;
  Durability durability = Durability::kDefault;
  uint64_t time_to_live_seconds = 0;
  // Sends the digest of each part, so that bytes damaged on the way are refused
  // instead of stored, and a conflict is seen. Costs a pass over the bytes.
  bool send_digests = true;
  // Sends payload from where it lies instead of copying each MiB as it goes
  // out. A call that ends early then waits until the transport has let go of
  // the payload, which is at once unless the daemon has stopped reading: then
  // it can be as late as the end of the connection, whatever the deadline.
  bool borrow_payload = false;
};

enum class PutOutcome {
  kFailed,          // `status` says why
  kStored,          // as durable as asked
  kAlreadyPresent,  // it was there: the same bytes, if digests were sent
  kConflict,        // other bytes were there and stay; `digest` is theirs
  kPending,         // somebody else is writing it; ours was not sent
};

struct PartStored {
  PutOutcome outcome = PutOutcome::kFailed;
  Digest digest;
  absl::Status status;  // OK unless kFailed
};

struct PutResult {
  std::vector<PartStored> parts;  // one for each part of the request
  Plane plane = Plane::kInline;   // that was taken
};

struct MatchRequest {
  SpaceRef space;
  std::string_view salt = {};
  Keys keys;  // 1 to 65,536, from the chain's first block
  Keys stretches = {};
  std::vector<uint32_t> groups = {};
  std::vector<uint32_t> tp_ranks = {};
  std::vector<uint32_t> pp_ranks = {};
  uint32_t lease_ms = 0;
  bool want_bitmap = false;
  bool peek = false;
};

struct MatchRun {
  uint32_t first = 0;
  uint32_t count = 0;
  Level level = Level::kNone;
};

struct GroupMatch {
  uint32_t group = 0;
  uint32_t blocks = 0;
};

struct MatchResult {
  uint32_t blocks = 0;
  uint64_t tokens = 0;
  std::vector<MatchRun> runs;
  std::vector<uint32_t> pending;
  std::vector<bool> present;  // with want_bitmap, one for each key
  uint64_t lease = 0;
  uint32_t lease_ms = 0;
  uint64_t fetch_bytes = 0;
  // How long reading all of it may take, from what reads of this client took by level
  // and size of a block. None while nothing was read from one of the levels.
  std::optional<std::chrono::duration<double>> fetch_time;
  std::vector<GroupMatch> groups;
  Plane plane = Plane::kInline;  // that was taken

  // Whether reading is quicker than computing the tokens at this rate, which is above
  // 0. Yes while nothing was measured, no if nothing matched.
  bool ShouldFetch(double prefill_tokens_per_second) const;
};

// Where a part's bytes go.
struct Destination {
  // Bytes outside of it fail their part with kOutOfRange and are not written.
  MutableBytes memory;
  // Offset in the part of the first byte of `memory`; not 0 where a layer
  // range is read into a buffer for that range.
  uint64_t part_offset = 0;
};

struct GetRequest {
  SpaceRef space;
  std::string_view salt = {};
  Keys keys;  // 1 to 4,096
  Keys stretches = {};
  std::vector<PartId> parts = {};  // of every key; if empty, group 0 of ranks 0
  uint32_t first_layer = 0;
  uint32_t layer_count = 0;  // 0: all from first_layer on
  ReadOrder order = ReadOrder::kDefault;
  uint64_t lease = 0;
  // One for each key and part: key index times the number of parts, plus
  // part index. Bytes of a part that fails are undefined.
  std::span<const Destination> destinations;
  // If true, parts that are read whole are compared with their digest;
  // kDataLoss where they differ. Costs a pass over the bytes.
  bool verify = false;
  // Takes parts that lie encoded as they lie, and decodes them here: less travels, and this
  // process spends the time. Not for kLayerMajor; `on_data` is called as sections are decoded.
  // By streams, encoded bytes land in the destination first, also those of a part that fails.
  bool decode_at_client = false;
  // If set, called when bytes have landed: index of the destination, offset in
  // the part, size. In the order of arrival, on a thread of the client; must
  // not block.
  std::function<void(size_t index, uint64_t offset, uint64_t size)> on_data = {};
};

// How a part is kept that lost something, as its space's floor allows.
struct PartFidelity {
  std::string codec;          // "rotated4"
  double bits_per_value = 0;  // that are stored, everything counted
  double error = 0;           // |x' - x| / |x|, as measured when it was encoded
  friend bool operator==(const PartFidelity&, const PartFidelity&) = default;
};

struct PartRead {
  // kNotFound is a miss, kDataLoss a damaged part that is gone now.
  absl::Status status;
  uint64_t size = 0;   // of the whole part
  uint64_t bytes = 0;  // that were written to the destination
  // That came for it where it came encoded: fewer than `bytes`. Otherwise 0.
  uint64_t bytes_received = 0;
  // Of the whole part as it was answered; 0 where it has a fidelity and was not read
  // as a whole.
  Digest digest;
  // None: the bytes are as they were put.
  std::optional<PartFidelity> fidelity;
  Level level = Level::kNone;
  uint32_t depth = 0;
};

struct GetResult {
  std::vector<PartRead> parts;   // in the order of the destinations
  Plane plane = Plane::kInline;  // that was taken
};

struct KeysRequest {
  SpaceRef space;
  std::string_view salt = {};
  Keys keys;
  Keys stretches = {};
};

struct DeleteRequest {
  enum class What { kKeys, kAllOfSalt, kAllOfSpace };
  SpaceRef space;
  std::string_view salt = {};
  What what = What::kKeys;
  Keys keys = {};
  Keys stretches = {};
};

struct PrefetchRequest {
  SpaceRef space;
  std::string_view salt = {};
  Keys keys = {};  // may be empty with `cancel`
  Keys stretches = {};
  std::vector<PartId> parts = {};  // empty: all that the space has
  uint64_t cancel = 0;
};

// What becomes of the parts; `prefetch` is for a later `cancel`.
struct PrefetchResult {
  uint64_t prefetch = 0;
  uint32_t queued = 0;
  uint32_t in_ram = 0;
  uint32_t absent = 0;
  uint32_t dropped = 0;
};

struct PinResult {
  uint64_t parts_pinned = 0;
  std::vector<uint32_t> missing;  // indexes of keys that are not here
};

struct PartInfo {
  std::string key;
  PartId part;
  uint64_t size = 0;
  uint64_t stored_bytes = 0;
  Digest digest;
  Level level = Level::kNone;
  bool on_disk = false;
  uint32_t depth = 0;
  std::string parent;
  Durability durability = Durability::kDefault;
  bool pinned = false;
  bool leased = false;
  bool pending = false;
  std::string codec;
  int64_t created_unix_us = 0;
  int64_t expires_unix_us = 0;
  uint64_t uses = 0;
};

struct ListBlocksRequest {
  SpaceRef space;
  std::optional<std::string> salt;  // absent: all salts
  std::string key_prefix;
  uint32_t page_size = 0;
  std::string page_token;
};

struct BlockPage {
  std::vector<PartInfo> parts;
  std::string next_page_token;  // empty on the last page
};

enum class BlockEventKind {
  kUnspecified = 0,
  kStored = 1,
  kMoved = 2,
  kRemoved = 3,
  kCleared = 4,
  kSnapshotEnd = 5
};

struct BlockEvent {
  uint64_t sequence = 0;
  BlockEventKind kind = BlockEventKind::kUnspecified;
  std::string key;
  PartId part;
  uint32_t depth = 0;
  Level level = Level::kNone;
  std::string salt_digest;
};

}  // namespace mnemo::client
