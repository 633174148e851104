#include "server/transfer/region.h"

#include <fmt/format.h>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

template <typename Piece>
absl::Status CheckRoom(std::span<const Piece> pieces, const SliceList& slices, uint64_t position,
                       uint64_t region_bytes) {
  uint64_t bytes = 0;
  for (const Piece& piece : pieces) bytes += piece.size();
  if (slices.end() > region_bytes) {
    return absl::InvalidArgumentError(
        fmt::format("slices end at {}, the registration at {} bytes", slices.end(), region_bytes));
  }
  if (position > slices.bytes() || bytes > slices.bytes() - position) {
    return absl::InvalidArgumentError(fmt::format("slices hold {} bytes, bytes {} to {} are needed",
                                                  slices.bytes(), position, position + bytes));
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view RegionFormLabel(RegionForm form) {
  switch (form) {
    case RegionForm::kMapped:
      return "mapped";
    case RegionForm::kShared:
      return "shared";
    case RegionForm::kProcess:
      return "process";
    case RegionForm::kStaging:
      return "staging";
  }
  return "unknown";
}

absl::Status Region::CopyIn(const SliceList& slices, uint64_t position,
                            std::span<const MutableByteView> to) const {
  MNEMO_RETURN_IF_ERROR(CheckRoom(to, slices, position, size_));
  return Read(RunCursor(slices, position), to);
}

absl::Status Region::CopyOut(std::span<const ByteView> from, const SliceList& slices,
                             uint64_t position) const {
  if (!writable_) {
    return absl::FailedPreconditionError("the memory was registered for reading only");
  }
  MNEMO_RETURN_IF_ERROR(CheckRoom(from, slices, position, size_));
  return Write(from, RunCursor(slices, position));
}

}  // namespace mnemo
