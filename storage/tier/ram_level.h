// L1 and L2: a level over an arena.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/tier/arena.h"
#include "storage/tier/block_level.h"

namespace mnemo {

// Thread-safe. Values are found by their locator alone; the key is not looked
// at, the directory above knows which key has which locator. Empty at start,
// durable never. Outlives every WritableValue and PinnedBytes it gave.
class RamLevel final : public BlockLevel {
 public:
  // Errors: as Arena::Create.
  static absl::StatusOr<std::unique_ptr<RamLevel>> Create(const ArenaOptions& options);

  // Receiving a value straight into its place: reserve, fill the pieces, adopt.
  // Errors: as Arena::Reserve.
  absl::StatusOr<WritableValue> Reserve(uint64_t size) { return arena_->Reserve(size); }
  Locator Adopt(WritableValue&& value) { return arena_->Seal(std::move(value)); }

  // A second Put of a key is a second value; the caller erases the first.
  absl::StatusOr<Locator> Put(const StoredKey& key, const BlockMetadata& metadata,
                              const std::vector<ByteView>& envelope) override;
  absl::StatusOr<PinnedBytes> Get(const StoredKey& key, Locator locator) const override;
  absl::Status UpdateMetadata(const StoredKey& key, const BlockMetadata& metadata) override;
  absl::Status Erase(const StoredKey& key, Locator locator) override;
  absl::Status ForEach(
      const std::function<bool(const StoredKey&, const BlockMetadata&)>& visit) const override;
  absl::Status Sync() override;
  LevelStats Stats() const override;

  ArenaStats arena_stats() const { return arena_->Stats(); }

 private:
  explicit RamLevel(std::unique_ptr<Arena> arena) : arena_(std::move(arena)) {}

  const std::unique_ptr<Arena> arena_;
};

}  // namespace mnemo
