#include "storage/base/pinned_bytes.h"

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {

PinnedBytes::PinnedBytes(std::vector<ByteView> pieces, std::shared_ptr<const void> owner)
    : pieces_(std::move(pieces)), owner_(std::move(owner)) {
  for (const ByteView piece : pieces_) size_ += piece.size();
}

void PinnedBytes::CopyTo(uint64_t offset, MutableByteView into) const {
  MNEMO_CHECK(offset <= size_ && into.size() <= size_ - offset);
  for (const ByteView piece : pieces_) {
    if (into.empty()) return;
    if (offset >= piece.size()) {
      offset -= piece.size();
      continue;
    }
    const size_t count = std::min<size_t>(piece.size() - offset, into.size());
    std::copy_n(piece.data() + offset, count, into.data());
    into = into.subspan(count);
    offset = 0;
  }
}

PinnedBytes PinnedBytes::Slice(uint64_t offset, uint64_t size) const {
  MNEMO_CHECK(offset <= size_ && size <= size_ - offset);
  std::vector<ByteView> pieces;
  for (const ByteView piece : pieces_) {
    if (size == 0) break;
    if (offset >= piece.size()) {
      offset -= piece.size();
      continue;
    }
    const size_t count = std::min<uint64_t>(piece.size() - offset, size);
    pieces.push_back(piece.subspan(offset, count));
    size -= count;
    offset = 0;
  }
  return PinnedBytes(std::move(pieces), owner_);
}

std::string PinnedBytes::ToString() const {
  std::string text(size_, '\0');
  CopyTo(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
  return text;
}

}  // namespace mnemo
