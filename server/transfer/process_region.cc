// Memory of a client's process, where the kernel lets us reach into it.
#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "server/transfer/region.h"
#include "storage/base/errno_status.h"
#include "storage/base/iovecs.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

using TransferCall = ssize_t (*)(pid_t, const iovec*, unsigned long, const iovec*, unsigned long,
                                 unsigned long);

absl::Status HasEnded() {
  return absl::FailedPreconditionError("the process that registered its memory has ended");
}

absl::Status Refused(int error) {
  switch (error) {
    case EFAULT:
      return absl::FailedPreconditionError("the registered memory is not mapped any more");
    case ESRCH:
      return HasEnded();
    case EPERM:
      return absl::PermissionDeniedError("the kernel does not allow to reach into the process");
    case ENOSYS:
      return absl::UnimplementedError("the kernel has no process_vm_readv");
    default:
      return ErrnoStatus("process_vm of registered memory", error);
  }
}

// The number of a process names it only while it lives, so it is looked at before
// and after each call: a number is free only once its process was seen to end.
class ProcessRegion final : public Region {
 public:
  ProcessRegion(Peer peer, uint64_t address, uint64_t size)
      : Region(RegionForm::kProcess, size, true), peer_(std::move(peer)), address_(address) {}

 private:
  absl::Status Read(RunCursor runs, std::span<const MutableByteView> to) const override {
    return Transfer(::process_vm_readv, PieceCursor<MutableByteView>(to), runs);
  }
  absl::Status Write(std::span<const ByteView> from, RunCursor runs) const override {
    return Transfer(::process_vm_writev, PieceCursor<ByteView>(from), runs);
  }

  template <typename Piece>
  absl::Status Transfer(TransferCall call, PieceCursor<Piece> pieces, RunCursor& runs) const {
    std::vector<iovec> ours;
    std::vector<iovec> theirs;
    uint64_t left = pieces.left();  // of the transfer
    uint64_t behind = left;         // of the runs that are not taken yet
    IovecSpan to;
    IovecSpan from;
    while (left > 0) {
      if (to.empty()) {
        pieces.Take(kMaxTransferBytes, ours);
        to = ours;
      }
      if (from.empty()) from = TakeRuns(runs, behind, theirs);
      if (!peer_.IsAlive()) return HasEnded();
      const ssize_t count = call(peer_.pid(), to.data(), to.size(), from.data(), from.size(), 0);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return Refused(count < 0 ? errno : EFAULT);
      if (!peer_.IsAlive()) return HasEnded();
      to = Advance(to, static_cast<uint64_t>(count));
      from = Advance(from, static_cast<uint64_t>(count));
      left -= static_cast<uint64_t>(count);
    }
    return absl::OkStatus();
  }

  IovecSpan TakeRuns(RunCursor& runs, uint64_t& behind, std::vector<iovec>& list) const {
    list.clear();
    uint64_t room = kMaxTransferBytes;
    while (list.size() < kMaxIovecs && behind > 0 && room > 0) {
      const SliceList::Run run = runs.Next(std::min(behind, room));
      list.push_back({reinterpret_cast<void*>(address_ + run.offset), run.length});
      behind -= run.length;
      room -= run.length;
    }
    return list;
  }

  const Peer peer_;
  const uint64_t address_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Region>> MakeProcessRegion(const Peer& peer, uint64_t address,
                                                          uint64_t size) {
  if (size < 1 || size > kMaxRegionBytes) {
    return absl::InvalidArgumentError(
        fmt::format("size: {} is not from 1 to {}", size, kMaxRegionBytes));
  }
  if (address > UINT64_MAX - size) {
    return absl::InvalidArgumentError(
        fmt::format("address: {} and {} bytes are more than there are", address, size));
  }
  if (peer.pid() == 0) {
    return absl::FailedPreconditionError("the peer's process is not known here");
  }
  // A daemon with more rights than its clients could reach into any process.
  if (peer.uid() != ::geteuid()) {
    return absl::PermissionDeniedError(
        fmt::format("memory of a process of uid {}: only of the daemon's own uid", peer.uid()));
  }
  MNEMO_ASSIGN_OR_RETURN(Peer own, peer.Clone());
  auto region = std::make_unique<ProcessRegion>(std::move(own), address, size);
  // The first and the last byte: whether the kernel allows it, and a lie that is
  // found early.
  for (const uint64_t offset : {uint64_t{0}, size - 1}) {
    uint8_t byte = 0;
    const MutableByteView piece(&byte, 1);
    MNEMO_ASSIGN_OR_RETURN(const SliceList slice,
                           SliceList::Create({{.offset = offset, .length = 1}}, size, "probe"));
    const absl::Status probed = region->CopyIn(slice, 0, {&piece, 1});
    if (absl::IsFailedPrecondition(probed) && peer.IsAlive()) {
      return absl::InvalidArgumentError(
          fmt::format("address: nothing is mapped at {}", address + offset));
    }
    MNEMO_RETURN_IF_ERROR(probed);
  }
  return region;
}

}  // namespace mnemo
