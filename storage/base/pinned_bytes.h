// Bytes in pieces, borrowed from whoever keeps them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/bytes.h"

namespace mnemo {

// Bytes that stay where they are, unchanged, while this lives, even when their
// value is erased meanwhile. A value is a list of pieces, in order, never one
// run. Movable; not thread-safe itself, but two pins of one value are
// independent.
class PinnedBytes {
 public:
  PinnedBytes() = default;
  PinnedBytes(std::vector<ByteView> pieces, std::shared_ptr<const void> owner);

  const std::vector<ByteView>& pieces() const { return pieces_; }
  uint64_t size() const { return size_; }
  // Copies [offset, offset + into.size()), which lies within size().
  void CopyTo(uint64_t offset, MutableByteView into) const;
  // A pin of [offset, offset + size) alone, which lies within size().
  PinnedBytes Slice(uint64_t offset, uint64_t size) const;
  std::string ToString() const;

 private:
  std::vector<ByteView> pieces_;
  uint64_t size_ = 0;
  std::shared_ptr<const void> owner_;
};

}  // namespace mnemo
