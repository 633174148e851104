// The seam of the levels: large immutable values in one physical place.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/base/checksum.h"
#include "storage/base/clock.h"
#include "storage/base/level.h"
#include "storage/base/pinned_bytes.h"
#include "storage/tier/stored_key.h"

namespace mnemo {

// "l1_ram", "l2_ram", "l3_disk", "archive": the label of metrics.
std::string_view LevelLabel(Level level);

// What is known of a stored part without its payload; kept apart from it, so
// that a start reads metadata alone. 64 bytes on disk but for `parent`.
struct BlockMetadata {
  Digest128 digest;            // of the exact payload, before any codec
  uint64_t payload_bytes = 0;  // exact
  uint64_t stored_bytes = 0;   // the envelope as stored at this level
  uint32_t depth = 0;          // index of the block in its chain
  uint16_t tokens = 0;
  uint8_t codec = 0;  // StoredForm of storage/codec/codec.h; 0: raw
  Durability durability = Durability::kCache;
  bool pinned = false;
  WallTime created;
  WallTime expires;    // nanos 0: never
  std::string parent;  // the client's key of the block before; may be empty
};
std::string EncodeMetadata(const BlockMetadata& metadata);
// Errors: kDataLoss.
absl::StatusOr<BlockMetadata> DecodeMetadata(ByteView bytes);

// Where within its level a value lies: an arena value for RAM, 0 where the key
// finds it. Stays valid until the value is erased.
struct Locator {
  uint64_t value = 0;
  friend bool operator==(const Locator&, const Locator&) = default;
};

struct LevelStats {
  uint64_t capacity_bytes = 0;  // 0: bounded by the disk alone
  uint64_t used_bytes = 0;      // what the values take, overhead included
  uint64_t live_bytes = 0;      // the values themselves
  uint64_t values = 0;
};

// Thread-safe. Values are immutable: a Put of a present key replaces it, which
// only recovery and repair do. Every Get returns exactly the bytes of one Put
// or an error; integrity is checked by the envelope's owner above, but a level
// that finds damage itself says kDataLoss.
class BlockLevel {
 public:
  virtual ~BlockLevel() = default;

  // `envelope` is the pieces of the value, in order. On return the value is
  // visible, and as durable as `metadata.durability` promises at this level.
  // Errors: kResourceExhausted (no room at this level, or the disk is full),
  // kUnavailable (the level stopped after an I/O error).
  virtual absl::StatusOr<Locator> Put(const StoredKey& key, const BlockMetadata& metadata,
                                      const std::vector<ByteView>& envelope) = 0;

  // Errors: kNotFound, kDataLoss, kUnavailable.
  virtual absl::StatusOr<PinnedBytes> Get(const StoredKey& key, Locator locator) const = 0;

  // Replaces what is known of a present value (pin, expiry) as durably as its
  // class. Errors: kNotFound. RAM levels keep no metadata and answer ok.
  virtual absl::Status UpdateMetadata(const StoredKey& key, const BlockMetadata& metadata) = 0;

  // Ok if nothing is there, for good. Logged like a Put where the level keeps a log.
  virtual absl::Status Erase(const StoredKey& key, Locator locator) = 0;

  // Calls `visit` for every value, from metadata alone, in key order, until it
  // returns false. RAM levels visit nothing: they are empty at start.
  // Errors: kDataLoss after all readable entries were visited.
  virtual absl::Status ForEach(
      const std::function<bool(const StoredKey&, const BlockMetadata&)>& visit) const = 0;

  // Makes everything accepted so far durable.
  virtual absl::Status Sync() = 0;

  virtual LevelStats Stats() const = 0;
};

}  // namespace mnemo
