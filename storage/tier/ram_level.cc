#include "storage/tier/ram_level.h"

#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {

absl::StatusOr<std::unique_ptr<RamLevel>> RamLevel::Create(const ArenaOptions& options) {
  MNEMO_ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena, Arena::Create(options));
  return std::unique_ptr<RamLevel>(new RamLevel(std::move(arena)));
}

absl::StatusOr<Locator> RamLevel::Put(const StoredKey& /*key*/, const BlockMetadata& /*metadata*/,
                                      const std::vector<ByteView>& envelope) {
  uint64_t size = 0;
  for (const ByteView piece : envelope) size += piece.size();
  MNEMO_ASSIGN_OR_RETURN(WritableValue value, arena_->Reserve(size));
  uint64_t offset = 0;
  for (const ByteView piece : envelope) {
    value.Write(offset, piece);
    offset += piece.size();
  }
  return arena_->Seal(std::move(value));
}

absl::StatusOr<PinnedBytes> RamLevel::Get(const StoredKey& /*key*/, Locator locator) const {
  return arena_->Pin(locator);
}

absl::Status RamLevel::UpdateMetadata(const StoredKey& /*key*/, const BlockMetadata& /*metadata*/) {
  return absl::OkStatus();
}

absl::Status RamLevel::Erase(const StoredKey& /*key*/, Locator locator) {
  arena_->Free(locator);
  return absl::OkStatus();
}

absl::Status RamLevel::ForEach(
    const std::function<bool(const StoredKey&, const BlockMetadata&)>& /*visit*/) const {
  return absl::OkStatus();
}

absl::Status RamLevel::Sync() { return absl::OkStatus(); }

LevelStats RamLevel::Stats() const {
  const ArenaStats arena = arena_->Stats();
  return {.capacity_bytes = arena.capacity_bytes,
          .used_bytes = arena.used_bytes,
          .live_bytes = arena.live_bytes,
          .values = arena.values};
}

}  // namespace mnemo
