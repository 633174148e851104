// Where the bytes of one part lie in registered memory.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mnemo {

// `count` runs of `length` bytes, the first at `offset`, each `stride` bytes
// after the one before. All in bytes from the start of the registration.
struct RegionSlice {
  uint64_t offset = 0;
  uint64_t length = 0;  // at least 1
  uint64_t stride = 0;  // at least `length`; of no meaning if count is 1
  uint64_t count = 1;   // 1 to kMaxRunsPerPart
  friend bool operator==(const RegionSlice&, const RegionSlice&) = default;
};

inline constexpr size_t kMaxSlicesPerPart = 1024;
inline constexpr uint64_t kMaxRunsPerPart = 65536;

// Slices of one part, in the order of its bytes, known to lie within a
// registration. A plain value: thread-compatible.
class SliceList {
 public:
  struct Run {
    uint64_t offset = 0;  // in the registration
    uint64_t length = 0;
  };

  SliceList() = default;
  // `region_bytes` is the size of the registration, `field` what the caller calls
  // the list ("keys[3].slices"). Errors: kInvalidArgument, naming the field and
  // its range; whatever the numbers, nothing overflows. O(slices).
  static absl::StatusOr<SliceList> Create(std::vector<RegionSlice> slices, uint64_t region_bytes,
                                          std::string_view field);

  const std::vector<RegionSlice>& slices() const { return slices_; }
  // All bytes of all runs.
  uint64_t bytes() const { return bytes_; }
  // Where the last run ends, in the registration.
  uint64_t end() const { return end_; }

 private:
  std::vector<RegionSlice> slices_;
  uint64_t bytes_ = 0;
  uint64_t end_ = 0;
};

// Walks the runs of a list from a byte of it on. Not thread-safe; the list
// outlives it.
class RunCursor {
 public:
  // Begins at byte `position` of the list, at most list.bytes(). O(slices).
  RunCursor(const SliceList& list, uint64_t position);

  // The next run, at most `most` bytes of it; runs that touch are one. Length 0
  // at the end.
  SliceList::Run Next(uint64_t most);

 private:
  // Goes on to the next run or slice where one is done.
  void Settle();

  std::span<const RegionSlice> slices_;
  size_t slice_ = 0;
  uint64_t run_ = 0;   // of the slice
  uint64_t into_ = 0;  // bytes of the run that are done
};

}  // namespace mnemo
