// What a store answers of its parts and levels, by value.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "storage/block/block_store.h"
#include "storage/block/fidelity_sampler.h"
#include "storage/block/store_core.h"

namespace mnemo {

// Thread-safe. Semantics: BlockStore.
class PartViews {
 public:
  explicit PartViews(StoreCore& core) : core_(core) {}

  std::vector<Lookup> Find(std::span<const PartKey> keys) const;
  std::vector<Lookup> Find(const BlockParts& blocks) const;
  std::optional<PartState> Describe(const PartKey& key) const;
  std::vector<BlockStore::ChainPart> Following(const PartKey& key, size_t count) const;
  void List(KeyScope scope, const std::optional<SaltDigest>& salt, std::string_view key_prefix,
            const std::string& after, size_t limit, std::vector<PartState>& parts,
            std::string& next) const;
  std::array<LevelFigures, kLevelCount> Levels() const;
  ScopeUsage Usage(KeyScope scope) const;
  BlockStoreCounters Counters() const;
  std::vector<CodecFigures> Codecs(const FidelitySampler& sampler) const;

 private:
  PartState StateOf(const DirectoryEntry& entry) const;

  StoreCore& core_;
};

}  // namespace mnemo
