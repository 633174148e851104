#include "server/transfer/slice_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace mnemo {
namespace {

absl::Status OutOfRange(std::string_view field, size_t index, std::string_view name, uint64_t value,
                        std::string_view allowed) {
  return absl::InvalidArgumentError(
      fmt::format("{}[{}].{}: {} is not {}", field, index, name, value, allowed));
}

// Where the slice ends in the registration, which is of `region_bytes`.
absl::StatusOr<uint64_t> EndOf(const RegionSlice& slice, uint64_t region_bytes,
                               std::string_view field, size_t index) {
  if (slice.count < 1 || slice.count > kMaxRunsPerPart) {
    return OutOfRange(field, index, "count", slice.count,
                      fmt::format("from 1 to {}", kMaxRunsPerPart));
  }
  if (slice.offset > region_bytes) {
    return OutOfRange(field, index, "offset", slice.offset,
                      fmt::format("within the registration of {} bytes", region_bytes));
  }
  const uint64_t room = region_bytes - slice.offset;
  if (slice.length < 1 || slice.length > room) {
    return OutOfRange(field, index, "length", slice.length,
                      fmt::format("from 1 to the {} bytes behind the offset", room));
  }
  if (slice.count == 1) return slice.offset + slice.length;
  // Divided, not multiplied: a product of two numbers of a message may overflow.
  const uint64_t most = (room - slice.length) / (slice.count - 1);
  if (slice.stride < slice.length || slice.stride > most) {
    return OutOfRange(field, index, "stride", slice.stride,
                      fmt::format("from the length {} to the {} that {} runs leave room for",
                                  slice.length, most, slice.count));
  }
  return slice.offset + (slice.count - 1) * slice.stride + slice.length;
}

}  // namespace

absl::StatusOr<SliceList> SliceList::Create(std::vector<RegionSlice> slices, uint64_t region_bytes,
                                            std::string_view field) {
  if (slices.empty() || slices.size() > kMaxSlicesPerPart) {
    return absl::InvalidArgumentError(fmt::format("{}: {} slices, from 1 to {} are allowed", field,
                                                  slices.size(), kMaxSlicesPerPart));
  }
  SliceList list;
  uint64_t runs = 0;
  for (size_t i = 0; i < slices.size(); ++i) {
    const absl::StatusOr<uint64_t> end = EndOf(slices[i], region_bytes, field, i);
    if (!end.ok()) return end.status();
    runs += slices[i].count;
    list.end_ = std::max(list.end_, *end);
    // At most 1024 lists of runs that do not overlap: no more than 2^10 times the
    // largest registration.
    list.bytes_ += slices[i].length * slices[i].count;
  }
  if (runs > kMaxRunsPerPart) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} runs in all, at most {} are allowed", field, runs, kMaxRunsPerPart));
  }
  list.slices_ = std::move(slices);
  return list;
}

RunCursor::RunCursor(const SliceList& list, uint64_t position) : slices_(list.slices()) {
  while (slice_ < slices_.size()) {
    const RegionSlice& slice = slices_[slice_];
    const uint64_t bytes = slice.length * slice.count;
    if (position < bytes) {
      run_ = position / slice.length;
      into_ = position % slice.length;
      return;
    }
    position -= bytes;
    ++slice_;
  }
}

SliceList::Run RunCursor::Next(uint64_t most) {
  SliceList::Run run;
  while (slice_ < slices_.size() && run.length < most) {
    const RegionSlice& slice = slices_[slice_];
    const uint64_t offset = slice.offset + run_ * slice.stride + into_;
    if (run.length == 0) {
      run.offset = offset;
    } else if (offset != run.offset + run.length) {
      break;
    }
    const uint64_t taken = std::min(slice.length - into_, most - run.length);
    run.length += taken;
    into_ += taken;
    Settle();
  }
  return run;
}

void RunCursor::Settle() {
  if (into_ < slices_[slice_].length) return;
  into_ = 0;
  if (++run_ < slices_[slice_].count) return;
  run_ = 0;
  ++slice_;
}

}  // namespace mnemo
