// Moves parts away from a level that needs room: to the next level, or out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "storage/block/part_encoding.h"
#include "storage/block/store_core.h"

namespace mnemo {

// Thread-safe: any number of threads may make room at once, each with victims
// of its own. Memory: one part in its encoded form for each thread, and at Disk
// kBatchBytes of pins.
class Demotion {
 public:
  explicit Demotion(StoreCore& core) : core_(core) {}

  // Frees at least `bytes` at `level`, if that is possible: false if all that
  // is there has to stay. What readers hold pinned is counted as freed.
  bool MakeRoom(Level level, uint64_t bytes);
  // The same, for callers that hold gates: events stay to be delivered.
  bool Free(Level level, uint64_t bytes);

  // Budget on disk for a part, making room for it. Events stay to be delivered.
  // Errors: kResourceExhausted.
  absl::Status TakeOnDisk(Level level, uint64_t stored_bytes);

  // Writes a part that lies in RAM alone to L3, making room there. Held; events
  // stay to be delivered.
  // Errors: kResourceExhausted (L3 is full of what has to stay, or the disk is
  // full), kUnavailable, kDataLoss (its bytes are damaged; they are gone).
  absl::Status WriteToDisk(const DirectoryEntry& entry);

  // Makes `encoded` the part's copy on disk, in that instance of the level, in the place
  // of the one that it has, making room there. Held; events stay to be delivered.
  // Errors: kResourceExhausted, kUnavailable, kAborted (the part changed).
  absl::Status PutOnDisk(const DirectoryEntry& entry, Level level, Durability instance,
                         const EncodedPart& encoded);

 private:
  // What became of a victim.
  enum class Fate : uint8_t {
    kFreed,   // its bytes left the level
    kStays,   // it has to stay; its policy holds it until it need not
    kFailed,  // not now
  };
  struct Victim {
    EntryId id = kNoEntry;
    EntryGate::Hold hold;
    std::optional<DirectoryEntry> entry;  // none: not at this level any more
  };

  // None: the policy has no victim.
  std::optional<Victim> NextVictim(Level level);
  // Moves one victim of `level`, or for L3 a batch. Adds the bytes freed.
  std::optional<Fate> DemoteNext(Level level, uint64_t wanted, uint64_t& freed);
  Fate DemoteFromRam(const DirectoryEntry& entry);
  bool MoveToL2(const DirectoryEntry& entry);
  std::optional<Fate> DemoteL3Batch(uint64_t wanted, uint64_t& freed);
  Fate DropFromDisk(const DirectoryEntry& entry, Level level);
  // Writes to a place whose budget is taken, and gives that back if it fails.
  absl::Status PutTaken(const DirectoryEntry& entry, const DiskPlace& place,
                        const EncodedPart& encoded);
  // Copies the part from L3 to Disk, without syncing. Errors: as WriteToDisk.
  absl::StatusOr<DiskPlace> CopyToArchive(const DirectoryEntry& entry);
  absl::StatusOr<EncodedPart> ReadForArchive(const DirectoryEntry& entry);

  StoreCore& core_;
};

}  // namespace mnemo
