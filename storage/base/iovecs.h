// Lists of pieces of memory for system calls that take many at once.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "storage/base/bytes.h"

namespace mnemo {

// The kernel takes no more in one call (IOV_MAX).
inline constexpr size_t kMaxIovecs = 1024;
// Nor more than 2 GiB - 4 KiB.
inline constexpr uint64_t kMaxTransferBytes = uint64_t{1} << 30;

// Entries of a list that are not done yet. A plain value; the entries live
// elsewhere.
using IovecSpan = std::span<iovec>;

// The list without its first `bytes`, which it has; the first entry left may be
// cut.
inline IovecSpan Advance(IovecSpan list, uint64_t bytes) {
  while (!list.empty() && bytes >= list.front().iov_len) {
    bytes -= list.front().iov_len;
    list = list.subspan(1);
  }
  if (bytes > 0) {
    list.front().iov_base = static_cast<uint8_t*>(list.front().iov_base) + bytes;
    list.front().iov_len -= bytes;
  }
  return list;
}

// Hands out pieces of our memory (ByteView or MutableByteView) in order, as
// entries of lists. Not thread-safe; the pieces outlive it.
template <typename Piece>
class PieceCursor {
 public:
  explicit PieceCursor(std::span<const Piece> pieces) : pieces_(pieces) {
    for (const Piece& piece : pieces) left_ += piece.size();
  }

  uint64_t left() const { return left_; }

  // Replaces `list` by at most the next `most` bytes, in at most kMaxIovecs
  // entries. Empty only if most or left() is 0.
  void Take(uint64_t most, std::vector<iovec>& list) {
    list.clear();
    while (most > 0 && left_ > 0 && list.size() < kMaxIovecs) {
      const Piece rest = pieces_.front().subspan(into_);
      const uint64_t taken = std::min<uint64_t>(rest.size(), most);
      // A list is written through only by calls that read into it, which are given
      // pieces that may be written.
      if (taken > 0) list.push_back({const_cast<uint8_t*>(rest.data()), taken});
      most -= taken;
      left_ -= taken;
      into_ += taken;
      if (into_ < pieces_.front().size()) continue;
      pieces_ = pieces_.subspan(1);
      into_ = 0;
    }
  }

 private:
  std::span<const Piece> pieces_;
  uint64_t into_ = 0;  // of the first piece
  uint64_t left_ = 0;
};

}  // namespace mnemo
