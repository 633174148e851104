// The RAM that L1 and L2 lie in: one mapped region, cut into extents.
//
// A value is a list of extents of 512 B to 2 MiB (buddy size classes), never
// one run, so every free granule of 512 B is usable whatever the sizes of what
// was there before: after any churn a value is refused only when fewer bytes
// are free than it needs, and the loss is what the last granule of each value
// leaves empty (256 B on average). Large extents are preferred, low addresses
// first, so that slabs of 2 MiB empty again.
//
// Overhead beyond the region: 0.05 % in bitmaps, 32 bytes a value with up to
// three extents, 4 bytes more for each extent of a value with more.
//
// Thread-safe: one lock, held for the bookkeeping of one value, never while
// bytes are copied or pages returned.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/base/mutex.h"
#include "storage/base/units.h"
#include "storage/tier/arena_extents.h"
#include "storage/tier/block_level.h"

namespace mnemo {

class Arena;

// Extents to receive a value into. Nobody else sees them before Seal; dropping
// this gives them back. Movable; not thread-safe. The arena outlives it.
class WritableValue {
 public:
  WritableValue() = default;
  WritableValue(WritableValue&& other) noexcept;
  WritableValue& operator=(WritableValue&& other) noexcept;
  ~WritableValue();

  // In order; their sizes add up to size().
  const std::vector<MutableByteView>& pieces() const { return pieces_; }
  uint64_t size() const { return size_; }
  // Copies `bytes` to [offset, offset + bytes.size()), which lies within size().
  void Write(uint64_t offset, ByteView bytes);
  // The bytes of [offset, offset + size), which lies within size(), in order.
  std::vector<ByteView> View(uint64_t offset, uint64_t size) const;
  // The same, to be written to.
  std::vector<MutableByteView> Room(uint64_t offset, uint64_t size);

 private:
  friend class Arena;
  WritableValue(Arena* arena, Locator locator, uint64_t size, std::vector<MutableByteView> pieces);
  void Drop();

  Arena* arena_ = nullptr;
  Locator locator_;
  uint64_t size_ = 0;
  std::vector<MutableByteView> pieces_;
  // Where the last Write ended, so that writing in order does not search.
  size_t cursor_piece_ = 0;
  uint64_t cursor_offset_ = 0;
};

struct ArenaOptions {
  // A multiple of 2 MiB, at least 2 MiB, at most 1 TiB.
  uint64_t capacity_bytes = 0;
  // Slabs that stay resident though empty; more go back to the system. All by default:
  // a page that went back is zeroed by the kernel when it is used again, and the arena's
  // bytes were given to it for good. docs/decisions/0119.
  uint32_t empty_slabs_kept = 0xffffffff;
  // Asks for transparent huge pages: fewer faults and TLB misses, and a slab
  // becomes resident as a whole.
  bool huge_pages = true;

  // Errors: kInvalidArgument.
  absl::Status Validate() const;
};

struct ArenaStats {
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;      // whole granules of all values below
  uint64_t live_bytes = 0;      // sealed values, exact sizes
  uint64_t reserved_bytes = 0;  // being received
  uint64_t pinned_bytes = 0;    // sealed values with a pin, each counted once
  uint64_t deferred_bytes = 0;  // freed, but a pin still reads them
  uint64_t resident_bytes = 0;  // slabs touched and not given back
  uint64_t values = 0;          // sealed
  uint64_t index_bytes = 0;     // bookkeeping outside the region
};

class Arena {
 public:
  static constexpr uint64_t kSlabSize = 2 * kMiB;
  static constexpr uint64_t kGranule = 512;
  // Largest single value.
  static constexpr uint64_t kMaxValueSize = 1 * kGiB;

  // Maps the region; nothing is resident yet. Errors: kInvalidArgument
  // (options), kResourceExhausted (the address space).
  static absl::StatusOr<std::unique_ptr<Arena>> Create(const ArenaOptions& options);
  // No WritableValue and no pin may be left.
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Errors: kInvalidArgument (size 0 or above kMaxValueSize),
  // kResourceExhausted (fewer bytes free). O(extents).
  absl::StatusOr<WritableValue> Reserve(uint64_t size);
  // Makes the value readable, for good unchanged. `value` comes from this
  // arena's Reserve and was not sealed before.
  Locator Seal(WritableValue&& value);
  // Keeps the bytes where they are until the answer and all its slices are
  // gone, also when the value is freed meanwhile; their space counts as used
  // until then. Errors: kNotFound (freed before).
  absl::StatusOr<PinnedBytes> Pin(Locator locator);
  // Exact size of a sealed value. Errors: kNotFound.
  absl::StatusOr<uint64_t> SizeOf(Locator locator) const;
  // False if it was not there. The space is free at once or when the last pin
  // goes.
  bool Free(Locator locator);

  ArenaStats Stats() const;

 private:
  friend class WritableValue;
  class ValuePin;

  Arena(const ArenaOptions& options, uint8_t* base);
  // Gives back a value that was never sealed.
  void Cancel(Locator locator);
  void Unpin(Locator locator);
  void TakeExtentsLocked(uint64_t granules) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Frees the record and its extents. Answers slabs that are empty now beyond
  // the slack: taken, for the caller to hand to ReturnPages after unlocking.
  std::vector<uint32_t> RemoveLocked(Locator locator, const ValueRecord& record)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReturnPages(const std::vector<uint32_t>& slabs);
  std::vector<MutableByteView> PiecesOf(uint64_t size, std::span<const Extent> extents) const;

  const ArenaOptions options_;
  uint8_t* const base_;

  mutable Mutex mutex_;  // innermost: nothing is locked while it is held
  CondVar pages_returned_;
  BuddyBitmaps free_ ABSL_GUARDED_BY(mutex_);
  ValueTable values_ ABSL_GUARDED_BY(mutex_);
  ArenaStats stats_ ABSL_GUARDED_BY(mutex_);
  std::vector<Extent> taken_ ABSL_GUARDED_BY(mutex_);  // scratch of Reserve
  // Granules in use of each slab, and whether its pages may be resident.
  std::vector<uint16_t> slab_used_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> slab_resident_ ABSL_GUARDED_BY(mutex_);
  uint32_t empty_resident_slabs_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t returning_slabs_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mnemo
