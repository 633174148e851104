// A block store with a space of a model's tensors, of which an owner may allow to lose
// some: keys and values of two layers of SmolLM2, from tests/data/codecs. The test's
// target defines MNEMO_TEST_DATA.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>

#include "storage/block/space.h"
#include "storage/block/space_registry.h"
#include "tests/support/block_store_fixture.h"
#include "tests/support/tensors.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {

inline constexpr uint32_t kTokens = 16;
inline constexpr uint32_t kBlocks = ::mnemo::testing::kCapturedTokens / kTokens;
inline constexpr uint64_t kTensorBytes = uint64_t{kTokens} * 3 * 64 * 2;
inline constexpr uint64_t kBlockBytes = 4 * kTensorBytes;
inline constexpr uint64_t kFiller = 1 * kMiB;

inline SpaceSpec ModelSpec(uint32_t floor) {
  return {.name = "smollm2",
          .fingerprint = {.weights_digest = "sha256:1"},
          .tokens_per_block = kTokens,
          .groups = {{.name = "full",
                      .layers = 2,
                      .kv_heads = 3,
                      .k_dimension = 64,
                      .v_dimension = 64,
                      .dtype = DType::kBF16,
                      .rope = RopeFacts{.theta = 1e5,
                                        .rotary_dimensions = 64,
                                        .pairing = RopePairing::kInterleaved}}},
          .policy = {.floor_bits_per_value = floor}};
}

// K and V of both layers of the book's block at `depth`, layer by layer.
inline std::string BlockOfBook(const std::string& book, uint32_t depth) {
  const auto model = ::mnemo::testing::CapturedModels()[0];
  std::string bytes;
  const auto keys = ::mnemo::testing::LoadCaptured(MNEMO_TEST_DATA, model, book, TensorRole::kKeys,
                                                   kTokens, depth);
  const auto values = ::mnemo::testing::LoadCaptured(MNEMO_TEST_DATA, model, book,
                                                     TensorRole::kValues, kTokens, depth);
  for (const size_t layer : {0, 1}) {
    for (const auto* tensor : {&keys, &values}) {
      bytes += AsText(ByteView(tensor->bytes).subspan(layer * kTensorBytes, kTensorBytes));
    }
  }
  return bytes;
}

inline double RelativeError(const std::string& was, const std::string& is) {
  const TensorShape all = {.tokens = 1, .heads = 1, .dimension = 64};
  double squares = 0;
  double errors = 0;
  for (size_t at = 0; at + 128 <= was.size(); at += 128) {
    const auto x = ::mnemo::testing::RowAt(all, AsBytes(was).subspan(at), 0, 0, 0);
    const auto y = ::mnemo::testing::RowAt(all, AsBytes(is).subspan(at), 0, 0, 0);
    for (size_t i = 0; i < x.size(); ++i) {
      squares += x[i] * x[i];
      errors += (x[i] - y[i]) * (x[i] - y[i]);
    }
  }
  return std::sqrt(errors / squares);
}

class ModelStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Open();
    MakeSpace(4);
  }

  void Open() {
    if (store_) {
      // Which asks for spaces, and keeps theirs open.
      ASSERT_OK(store_->Close());
      spaces_.reset();
      store_.reset();
    }
    BlockStoreOptions options = SmallStore(dir_ / "data");
    options.eviction_policy = "lru";
    options.promote_hits = 10;
    auto store = BlockStore::Open(options, files_, clock_, [](const PartEvent&) {});
    ASSERT_OK(store);
    store_ = *std::move(store);
    // Of which tokens a group learns hangs on its space's id.
    auto spaces = SpaceRegistry::Load(store_->state(), clock_, [this] { return ++last_space_; });
    ASSERT_OK(spaces);
    spaces_ = *std::move(spaces);
    store_->UseSpaces([this](KeyScope scope) -> std::shared_ptr<const Space> {
      return spaces_->ById(scope.tenant, scope.space).value_or(nullptr);
    });
  }
  void MakeSpace(uint32_t floor) {
    auto opened = spaces_->Open(7, ModelSpec(floor), false);
    ASSERT_OK(opened);
    scope_ = opened->first->scope;
  }
  void SetFloor(uint32_t bits) { SetPolicy({.floor_bits_per_value = bits}); }
  void SetPolicy(const SpacePolicy& policy) {
    ASSERT_OK(spaces_->UpdatePolicy(scope_.tenant, scope_.space, policy));
  }

  PartKey Key(uint64_t chain, uint32_t depth) const { return TestPart(chain, depth, scope_); }
  void Put(uint64_t chain, uint32_t depth, const std::string& payload,
           Durability durability = Durability::kCache) {
    WriteSpec spec = TestSpec(kBlockBytes, depth, durability);
    spec.layout.sizes.assign(4, kTensorBytes);
    if (depth > 0) spec.parent = TestBlockKey(chain, depth - 1);
    ASSERT_OK(PutPart(*store_, Key(chain, depth), payload, spec));
  }
  // As many blocks of the book as `chain`.
  void PutBook(uint64_t chain, const std::string& book, uint32_t blocks = kBlocks,
               Durability durability = Durability::kCache) {
    for (uint32_t depth = 0; depth < blocks; ++depth) {
      Put(chain, depth, BlockOfBook(book, depth), durability);
    }
  }
  // Enough of other spaces to push everything else out of L1.
  void FillL1() {
    for (uint64_t i = 0; i < 64; ++i, ++fillers_) {
      const PartKey key = TestPart(1'000'000 + fillers_);
      ASSERT_OK(PutPart(*store_, key, TestPayload(key, 0, kFiller), TestSpec(kFiller)));
    }
  }
  // The group is calibrated by what is met first.
  void Calibrate() {
    PutBook(1, "calibration");
    ASSERT_OK(store_->Flush(scope_));
  }

  TempDir dir_;
  UnsyncedFileSystem files_;
  FakeClock clock_;
  uint64_t last_space_ = 0x5ca1ab1e;
  KeyScope scope_;
  uint64_t fillers_ = 0;
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<SpaceRegistry> spaces_;
};

}  // namespace mnemo
