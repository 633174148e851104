// Memory of a client on this host that parts are copied into and out of.
//
// A client's memory is never trusted: it may change, shrink, be unmapped or be
// punched with holes at any moment, also while a copy runs. Such a copy fails
// with a Status and hurts nobody else. What CopyIn brought here is to be checked
// only after it is here, and nothing is to be decided by memory of the client.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/transfer/peer.h"
#include "server/transfer/slice_list.h"
#include "storage/base/bytes.h"
#include "storage/base/descriptor.h"

namespace mnemo {

// kMapped: a memfd of the client with F_SEAL_SHRINK and F_SEAL_GROW, mapped here.
// kShared: any other file on a tmpfs, such as /dev/shm; read and written by system
// calls, since it may be cut. kProcess: an address range of the client's process,
// if it has our uid. kStaging: a memfd that we make and the client maps.
enum class RegionForm : uint8_t { kMapped = 1, kShared = 2, kProcess = 3, kStaging = 4 };
inline constexpr size_t kRegionFormCount = 4;
// "mapped", "shared", "process", "staging": the label of metrics.
std::string_view RegionFormLabel(RegionForm form);

inline constexpr uint64_t kMaxRegionBytes = uint64_t{1} << 40;

// Thread-safe; copies of one region may run at once. Calls block for as long as a
// copy takes, never on the disk.
class Region {
 public:
  virtual ~Region() = default;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  RegionForm form() const { return form_; }
  uint64_t size() const { return size_; }
  // False if the descriptor was opened for reading only: CopyOut is refused.
  bool writable() const { return writable_; }

  // Copies bytes [position, position + size of all of `to`) of the slices into
  // `to`, piece after piece. Holes read as zeros. Errors: kInvalidArgument (the
  // slices end before), kFailedPrecondition (the memory is no longer there). After
  // an error, `to` holds anything.
  absl::Status CopyIn(const SliceList& slices, uint64_t position,
                      std::span<const MutableByteView> to) const;
  // Copies `from`, piece after piece, to the slices from byte `position` of them
  // on. Errors: kInvalidArgument (the slices end before), kFailedPrecondition (not
  // writable; no longer there; it has holes, whose pages the daemon would have to
  // pay for), kResourceExhausted (its file system is full). After an error, some of
  // it may have been written.
  absl::Status CopyOut(std::span<const ByteView> from, const SliceList& slices,
                       uint64_t position) const;

 protected:
  Region(RegionForm form, uint64_t size, bool writable)
      : form_(form), size_(size), writable_(writable) {}

 private:
  // The slices lie within size(), and hold what is asked of them.
  virtual absl::Status Read(RunCursor runs, std::span<const MutableByteView> to) const = 0;
  virtual absl::Status Write(std::span<const ByteView> from, RunCursor runs) const = 0;

  const RegionForm form_;
  const uint64_t size_;
  const bool writable_;
};

// Makes a region of a descriptor that a client sent: kMapped if it is a memfd
// with both seals, otherwise kShared. `size` is 1 to kMaxRegionBytes and at most
// the file's. Errors: kInvalidArgument (another kind of file, not on a tmpfs,
// O_APPEND, shorter than `size`), kPermissionDenied (not open for reading),
// kResourceExhausted (address space).
absl::StatusOr<std::unique_ptr<Region>> MakeFileRegion(Descriptor file, uint64_t size);

// Makes a region of [address, address + size) of the peer's process. Errors:
// kPermissionDenied (another uid, or the kernel forbids it), kFailedPrecondition
// (the peer's pid is unknown, or it has ended), kInvalidArgument (address and size
// overflow, nothing is mapped there), kUnimplemented (the kernel cannot).
absl::StatusOr<std::unique_ptr<Region>> MakeProcessRegion(const Peer& peer, uint64_t address,
                                                          uint64_t size);

// Makes a memfd of `size` bytes, a multiple of the page size, sealed and mapped, for
// a client that can register nothing of its own. All its pages are there.
// `for_client` receives the descriptor to send. Errors: kInvalidArgument,
// kResourceExhausted.
absl::StatusOr<std::unique_ptr<Region>> MakeStagingRegion(uint64_t size, Descriptor& for_client);

}  // namespace mnemo
