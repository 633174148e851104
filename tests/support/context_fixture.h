// A context store over real instances, and tokens whose bytes follow from their
// positions, for tests of every kind.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/context/context_store.h"
#include "storage/context/embedding.h"
#include "storage/tier/instance.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tier_fixture.h"

namespace mnemo {

// The instances of one node, and a context store on them.
class ContextNode {
 public:
  static absl::StatusOr<std::unique_ptr<ContextNode>> Open(const std::string& folder,
                                                           FileSystem& files, const Clock& clock,
                                                           uint64_t cache_bytes = 16ull << 20) {
    auto node = std::unique_ptr<ContextNode>(new ContextNode());
    const auto open = [&](const std::string& name, Durability durability, Level level) {
      InstanceOptions options = SmallInstance(folder + "/" + name, durability);
      options.level = level;
      // Only what a call itself makes durable counts.
      options.interval_sync_period = std::chrono::seconds(60);
      return Instance::Open(options, files, clock, *node->resources_, nullptr);
    };
    MNEMO_ASSIGN_OR_RETURN(node->sync_, open("sync", Durability::kSync, Level::kL3));
    MNEMO_ASSIGN_OR_RETURN(node->interval_, open("interval", Durability::kInterval, Level::kL3));
    MNEMO_ASSIGN_OR_RETURN(node->archive_, open("archive", Durability::kSync, Level::kDisk));
    node->stores_ = {.sync = &node->sync_->store(),
                     .interval = &node->interval_->store(),
                     .sync_archive = &node->archive_->store(),
                     .interval_archive = &node->archive_->store()};
    node->contexts_ = std::make_unique<ContextStore>(
        node->stores_, clock, ContextStoreOptions{.cache_bytes = cache_bytes});
    return node;
  }

  ContextStore& contexts() { return *contexts_; }
  const ContextStores& stores() const { return stores_; }
  Instance& sync() { return *sync_; }
  Instance& archive() { return *archive_; }

 private:
  ContextNode() = default;

  std::unique_ptr<TierResources> resources_ = MakeTestResources();
  std::unique_ptr<Instance> sync_, interval_, archive_;
  ContextStores stores_;
  std::unique_ptr<ContextStore> contexts_;
};

inline ContextSpec TestContext(const std::string& name, uint32_t dimension = 8) {
  ContextSpec spec;
  spec.name = name;
  spec.dimension = dimension;
  return spec;
}

// Tokens [first, first + count) of a stream in which everything follows from
// (seed, position). Owns what columns() points into.
class TestTokens {
 public:
  TestTokens(uint64_t first, uint32_t count, uint32_t dimension, uint64_t seed = 1)
      : first_(first), count_(count) {
    for (uint64_t position = first; position < first + count; ++position) {
      ids_.push_back(Id(position, seed));
      kinds_.push_back(static_cast<uint8_t>(Kind(position)));
      importances_.push_back(static_cast<float>(position % 100) / 100);
      times_.push_back(Time(position));
      for (uint32_t i = 0; i < dimension; ++i) values_.push_back(Value(position, i, seed));
    }
  }

  // Small multiples of 1/64: exact in fp16, and sums of them in fp32.
  static float Value(uint64_t position, uint32_t i, uint64_t seed = 1) {
    const uint64_t hash = Checksum64({}, (position * 4099 + i) * 31 + seed);
    return static_cast<float>(static_cast<int>(hash % 256) - 128) / 64;
  }
  static uint32_t Id(uint64_t position, uint64_t seed = 1) {
    return static_cast<uint32_t>(Checksum64({}, position + seed * 7919) % 1000);
  }
  static TokenKind Kind(uint64_t position) {
    return static_cast<TokenKind>(position / 100 % kTokenKinds);
  }
  static int64_t Time(uint64_t position) { return static_cast<int64_t>(1000 + position); }

  TokenColumns columns() const {
    TokenColumns tokens{.first_position = first_, .count = count_};
    tokens.ids = BytesOf(ids_);
    tokens.kinds = BytesOf(kinds_);
    tokens.embeddings = BytesOf(values_);
    tokens.importances = BytesOf(importances_);
    tokens.times_unix_us = BytesOf(times_);
    return tokens;
  }
  std::vector<float>& values() { return values_; }
  std::vector<float>& importances() { return importances_; }
  std::vector<uint8_t>& kinds() { return kinds_; }

 private:
  template <typename T>
  static ByteView BytesOf(const std::vector<T>& column) {
    return {reinterpret_cast<const uint8_t*>(column.data()), column.size() * sizeof(T)};
  }
  uint64_t first_;
  uint32_t count_;
  std::vector<uint32_t> ids_;
  std::vector<uint8_t> kinds_;
  std::vector<float> values_, importances_;
  std::vector<int64_t> times_;
};

// Whether exactly the tokens [0, tokens) of TestTokens are stored.
inline absl::Status CheckTestTokens(const ContextReader& reader, const ContextRecord& context,
                                    uint64_t tokens, uint64_t seed = 1) {
  uint64_t next = 0;
  std::string wrong;
  std::vector<float> row(context.spec.dimension);
  const auto check = [&](ChunkPiece& piece) {
    for (uint32_t i = 0; i < piece.columns.count; ++i, ++next) {
      if (piece.columns.id(i) != TestTokens::Id(next, seed)) wrong = "id";
      if (piece.columns.kind(i) != TestTokens::Kind(next)) wrong = "kind";
      if (piece.columns.times_unix_us[i] != TestTokens::Time(next)) wrong = "time";
      DecodeRows(context.spec.stored, piece.rows->row(i), 1, row.size(), row.data());
      for (uint32_t j = 0; j < row.size(); ++j) {
        if (row[j] != TestTokens::Value(next, j, seed)) wrong = "embedding";
      }
      if (!wrong.empty()) return false;
    }
    return true;
  };
  MNEMO_RETURN_IF_ERROR(reader.ScanChunks(context, 0, kMaxPosition, /*with_rows=*/true, check));
  if (wrong.empty() && next == tokens) return absl::OkStatus();
  return absl::InternalError("token " + std::to_string(next) + " of " + std::to_string(tokens) +
                             ": another " + (wrong.empty() ? "number of them" : wrong));
}

}  // namespace mnemo
