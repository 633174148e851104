#include "storage/tier/arena.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

uint64_t GranulesFor(uint64_t size) { return (size + Arena::kGranule - 1) / Arena::kGranule; }

}  // namespace

absl::Status ArenaOptions::Validate() const {
  constexpr uint64_t kMaxCapacity = uint64_t{1} << 40;
  if (capacity_bytes < Arena::kSlabSize || capacity_bytes > kMaxCapacity ||
      capacity_bytes % Arena::kSlabSize != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "capacity_bytes is {}, not a multiple of 2 MiB from 2 MiB to 1 TiB", capacity_bytes));
  }
  return absl::OkStatus();
}

WritableValue::WritableValue(Arena* arena, Locator locator, uint64_t size,
                             std::vector<MutableByteView> pieces)
    : arena_(arena), locator_(locator), size_(size), pieces_(std::move(pieces)) {}

WritableValue::WritableValue(WritableValue&& other) noexcept
    : arena_(std::exchange(other.arena_, nullptr)),
      locator_(other.locator_),
      size_(std::exchange(other.size_, 0)),
      pieces_(std::exchange(other.pieces_, {})),
      cursor_piece_(std::exchange(other.cursor_piece_, 0)),
      cursor_offset_(std::exchange(other.cursor_offset_, 0)) {}

WritableValue& WritableValue::operator=(WritableValue&& other) noexcept {
  if (this != &other) {
    Drop();
    arena_ = std::exchange(other.arena_, nullptr);
    locator_ = other.locator_;
    size_ = std::exchange(other.size_, 0);
    pieces_ = std::exchange(other.pieces_, {});
    cursor_piece_ = std::exchange(other.cursor_piece_, 0);
    cursor_offset_ = std::exchange(other.cursor_offset_, 0);
  }
  return *this;
}

WritableValue::~WritableValue() { Drop(); }

void WritableValue::Drop() {
  if (arena_ != nullptr) std::exchange(arena_, nullptr)->Cancel(locator_);
}

void WritableValue::Write(uint64_t offset, ByteView bytes) {
  MNEMO_CHECK(offset <= size_ && bytes.size() <= size_ - offset);
  if (offset < cursor_offset_) cursor_piece_ = cursor_offset_ = 0;
  while (!bytes.empty()) {
    const MutableByteView piece = pieces_[cursor_piece_];
    const uint64_t within = offset - cursor_offset_;
    if (within >= piece.size()) {
      cursor_offset_ += piece.size();
      ++cursor_piece_;
      continue;
    }
    const size_t count = std::min<uint64_t>(piece.size() - within, bytes.size());
    std::memcpy(piece.data() + within, bytes.data(), count);
    bytes = bytes.subspan(count);
    offset += count;
  }
}

std::vector<ByteView> WritableValue::View(uint64_t offset, uint64_t size) const {
  const std::vector<MutableByteView> room = const_cast<WritableValue*>(this)->Room(offset, size);
  return {room.begin(), room.end()};
}

std::vector<MutableByteView> WritableValue::Room(uint64_t offset, uint64_t size) {
  MNEMO_CHECK(offset <= size_ && size <= size_ - offset);
  std::vector<MutableByteView> view;
  for (const MutableByteView piece : pieces_) {
    if (size == 0) break;
    if (offset >= piece.size()) {
      offset -= piece.size();
      continue;
    }
    const size_t count = std::min<uint64_t>(piece.size() - offset, size);
    view.push_back(piece.subspan(offset, count));
    size -= count;
    offset = 0;
  }
  return view;
}

// What PinnedBytes shares: one pin of one value.
class Arena::ValuePin {
 public:
  ValuePin(Arena& arena, Locator locator) : arena_(arena), locator_(locator) {}
  ~ValuePin() { arena_.Unpin(locator_); }
  ValuePin(const ValuePin&) = delete;
  ValuePin& operator=(const ValuePin&) = delete;

 private:
  Arena& arena_;
  const Locator locator_;
};

absl::StatusOr<std::unique_ptr<Arena>> Arena::Create(const ArenaOptions& options) {
  MNEMO_RETURN_IF_ERROR(options.Validate());
  // Room to align to a slab, so that huge pages and slabs coincide.
  const uint64_t mapped = options.capacity_bytes + kSlabSize;
  void* const region = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        fmt::format("cannot map an arena of {} bytes: {}", mapped, std::strerror(errno)));
  }
  const auto address = reinterpret_cast<uintptr_t>(region);
  const uintptr_t aligned = (address + kSlabSize - 1) / kSlabSize * kSlabSize;
  if (aligned > address) munmap(region, aligned - address);
  const uintptr_t end = aligned + options.capacity_bytes;
  if (address + mapped > end) munmap(reinterpret_cast<void*>(end), address + mapped - end);
  auto* const base = reinterpret_cast<uint8_t*>(aligned);
  // Advice only: a kernel without huge pages serves small ones.
  if (options.huge_pages) madvise(base, options.capacity_bytes, MADV_HUGEPAGE);
  // Payloads are tenants' data, and a core file is no place for them.
  madvise(base, options.capacity_bytes, MADV_DONTDUMP);
  return std::unique_ptr<Arena>(new Arena(options, base));
}

Arena::Arena(const ArenaOptions& options, uint8_t* base)
    : options_(options),
      base_(base),
      free_(static_cast<uint32_t>(options.capacity_bytes / kSlabSize)),
      slab_used_(options.capacity_bytes / kSlabSize, 0),
      slab_resident_(options.capacity_bytes / kSlabSize, false) {
  stats_.capacity_bytes = options.capacity_bytes;
}

Arena::~Arena() {
  {
    MutexLock lock(mutex_);
    MNEMO_CHECK(stats_.reserved_bytes == 0 && stats_.pinned_bytes == 0 &&
                stats_.deferred_bytes == 0);
  }
  munmap(base_, options_.capacity_bytes);
}

absl::StatusOr<WritableValue> Arena::Reserve(uint64_t size) {
  if (size == 0 || size > kMaxValueSize) {
    return absl::InvalidArgumentError(
        fmt::format("size of a value is {}, not 1 to {} bytes", size, kMaxValueSize));
  }
  const uint64_t granules = GranulesFor(size);
  MutexLock lock(mutex_);
  while (granules > free_.free_granules() && returning_slabs_ > 0) pages_returned_.Wait(mutex_);
  if (granules > free_.free_granules()) {
    return absl::ResourceExhaustedError(
        fmt::format("a value of {} bytes, and {} of the arena's {} are free", size,
                    free_.free_granules() * kGranule, options_.capacity_bytes));
  }
  TakeExtentsLocked(granules);
  const Locator locator = values_.Add(size, taken_);
  stats_.used_bytes += granules * kGranule;
  stats_.reserved_bytes += size;
  return WritableValue(this, locator, size, PiecesOf(size, taken_));
}

void Arena::TakeExtentsLocked(uint64_t granules) {
  taken_.clear();
  while (granules > 0) {
    const uint32_t order = std::min<uint32_t>(BuddyBitmaps::kMaxOrder,
                                              static_cast<uint32_t>(std::bit_width(granules)) - 1);
    const Extent extent = free_.Take(order);
    granules -= extent.granules();
    const uint32_t slab = extent.granule() / kGranulesPerSlab;
    if (slab_used_[slab] == 0) {
      if (slab_resident_[slab]) {
        --empty_resident_slabs_;
      } else {
        slab_resident_[slab] = true;
        stats_.resident_bytes += kSlabSize;
      }
    }
    slab_used_[slab] = static_cast<uint16_t>(slab_used_[slab] + extent.granules());
    taken_.push_back(extent);
  }
}

std::vector<MutableByteView> Arena::PiecesOf(uint64_t size, std::span<const Extent> extents) const {
  std::vector<MutableByteView> pieces;
  pieces.reserve(extents.size());
  for (const Extent extent : extents) {
    uint8_t* const start = base_ + uint64_t{extent.granule()} * kGranule;
    const uint64_t count = std::min<uint64_t>(size, uint64_t{extent.granules()} * kGranule);
    // Neighbours make one piece: fewer iovecs and checks above.
    if (!pieces.empty() && pieces.back().data() + pieces.back().size() == start) {
      pieces.back() = {pieces.back().data(), pieces.back().size() + count};
    } else {
      pieces.emplace_back(start, count);
    }
    size -= count;
  }
  return pieces;
}

Locator Arena::Seal(WritableValue&& value) {
  MNEMO_CHECK(value.arena_ == this);
  WritableValue sealed = std::move(value);
  sealed.arena_ = nullptr;
  MutexLock lock(mutex_);
  ValueRecord* const record = values_.Find(sealed.locator_);
  MNEMO_CHECK(record != nullptr && record->state == ValueRecord::kReserved);
  record->state = ValueRecord::kSealed;
  stats_.reserved_bytes -= record->size;
  stats_.live_bytes += record->size;
  ++stats_.values;
  return sealed.locator_;
}

absl::StatusOr<PinnedBytes> Arena::Pin(Locator locator) {
  uint64_t size = 0;
  std::span<const Extent> extents;
  std::array<Extent, ValueRecord::kInlineExtents> inline_extents;
  {
    MutexLock lock(mutex_);
    ValueRecord* const record = values_.Find(locator);
    if (record == nullptr || record->state != ValueRecord::kSealed) {
      return absl::NotFoundError("no such value in the arena");
    }
    // A pin more than 2^30 of one value would be a leak of pins.
    MNEMO_CHECK(record->pins < (1u << 30) - 1);
    if (record->pins++ == 0) stats_.pinned_bytes += record->size;
    size = record->size;
    extents = record->extents();
    if (extents.size() <= inline_extents.size()) {
      // These lie in the record, which the table may not move, but Unpin of
      // others may write beside them.
      std::copy(extents.begin(), extents.end(), inline_extents.begin());
      extents = std::span(inline_extents).first(extents.size());
    }
  }
  auto pin = std::make_shared<const ValuePin>(*this, locator);
  const std::vector<MutableByteView> pieces = PiecesOf(size, extents);
  return PinnedBytes({pieces.begin(), pieces.end()}, std::move(pin));
}

absl::StatusOr<uint64_t> Arena::SizeOf(Locator locator) const {
  MutexLock lock(mutex_);
  const ValueRecord* const record = values_.Find(locator);
  if (record == nullptr || record->state != ValueRecord::kSealed) {
    return absl::NotFoundError("no such value in the arena");
  }
  return record->size;
}

bool Arena::Free(Locator locator) {
  std::vector<uint32_t> surplus;
  {
    MutexLock lock(mutex_);
    ValueRecord* const record = values_.Find(locator);
    if (record == nullptr || record->state != ValueRecord::kSealed) return false;
    stats_.live_bytes -= record->size;
    --stats_.values;
    if (record->pins > 0) {
      record->state = ValueRecord::kFreed;
      stats_.pinned_bytes -= record->size;
      stats_.deferred_bytes += record->size;
      return true;
    }
    surplus = RemoveLocked(locator, *record);
  }
  ReturnPages(surplus);
  return true;
}

void Arena::Cancel(Locator locator) {
  std::vector<uint32_t> surplus;
  {
    MutexLock lock(mutex_);
    ValueRecord* const record = values_.Find(locator);
    MNEMO_CHECK(record != nullptr && record->state == ValueRecord::kReserved);
    stats_.reserved_bytes -= record->size;
    surplus = RemoveLocked(locator, *record);
  }
  ReturnPages(surplus);
}

void Arena::Unpin(Locator locator) {
  std::vector<uint32_t> surplus;
  {
    MutexLock lock(mutex_);
    ValueRecord* const record = values_.Find(locator);
    MNEMO_CHECK(record != nullptr && record->pins > 0);
    if (--record->pins > 0) return;
    if (record->state != ValueRecord::kFreed) {
      stats_.pinned_bytes -= record->size;
      return;
    }
    stats_.deferred_bytes -= record->size;
    surplus = RemoveLocked(locator, *record);
  }
  ReturnPages(surplus);
}

std::vector<uint32_t> Arena::RemoveLocked(Locator locator, const ValueRecord& record) {
  std::vector<uint32_t> surplus;
  for (const Extent extent : record.extents()) {
    free_.Give(extent);
    const uint32_t slab = extent.granule() / kGranulesPerSlab;
    slab_used_[slab] = static_cast<uint16_t>(slab_used_[slab] - extent.granules());
    if (slab_used_[slab] > 0) continue;
    if (empty_resident_slabs_ < options_.empty_slabs_kept) {
      ++empty_resident_slabs_;
      continue;
    }
    // Taken while its pages go back: nobody must write to it meanwhile.
    free_.TakeSlab(slab);
    slab_resident_[slab] = false;
    stats_.resident_bytes -= kSlabSize;
    ++returning_slabs_;
    surplus.push_back(slab);
  }
  stats_.used_bytes -= GranulesFor(record.size) * kGranule;
  values_.Remove(locator);
  return surplus;
}

void Arena::ReturnPages(const std::vector<uint32_t>& slabs) {
  if (slabs.empty()) return;
  for (const uint32_t slab : slabs) {
    madvise(base_ + uint64_t{slab} * kSlabSize, kSlabSize, MADV_DONTNEED);
  }
  MutexLock lock(mutex_);
  for (const uint32_t slab : slabs) {
    free_.Give(Extent(slab * kGranulesPerSlab, BuddyBitmaps::kMaxOrder));
  }
  returning_slabs_ -= static_cast<uint32_t>(slabs.size());
  pages_returned_.SignalAll();
}

ArenaStats Arena::Stats() const {
  MutexLock lock(mutex_);
  ArenaStats stats = stats_;
  stats.index_bytes = free_.MemoryBytes() + values_.MemoryBytes() +
                      slab_used_.size() * sizeof(uint16_t) + slab_resident_.size() / 8;
  return stats;
}

}  // namespace mnemo
