#include <gtest/gtest.h>

#include <algorithm>

#include "storage/context/chunk_mover.h"
#include "tests/support/context_fixture.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

constexpr uint64_t kTenant = 7;

TEST(RotatedContextTest, RowsAreTheSameHoweverTheyWereCutAndWhereverTheyLie) {
  const TempDir dir;
  const std::unique_ptr<FileSystem> files = MakePosixFileSystem();
  FakeClock clock;
  ASSERT_OK_AND_ASSIGN(auto node, ContextNode::Open(dir.path(), *files, clock));
  const auto read_codes = [&](const ContextRecord& context) {
    std::string read;
    EXPECT_OK(node->contexts().reader().ScanChunks(context, 0, kMaxPosition, /*with_rows=*/true,
                                                   [&](ChunkPiece& piece) {
                                                     read += AsText(piece.rows->rows());
                                                     return true;
                                                   }));
    return read;
  };
  ContextSpec spec = TestContext("", 64);
  spec.stored = ElementType::kRotated4;
  constexpr uint64_t kTokens = kRunTokens + 300;
  const TestTokens all(0, kTokens, 64);
  std::string codes;
  EncodeRows(ElementType::kFloat32, all.columns().embeddings, kTokens, 64, spec.stored, codes);
  std::vector<float> values(kTokens * 64);
  DecodeRows(spec.stored, AsBytes(codes).data(), kTokens, 64, values.data());
  for (const uint32_t step : {7U, 129U, 1000U}) {
    ContextStore& store = node->contexts();
    spec.name = "c" + std::to_string(step);
    ASSERT_OK_AND_ASSIGN(const auto made, store.Create(kTenant, spec));
    const ContextRecord& context = made.first;
    ASSERT_OK_AND_ASSIGN(WriterClaim claim, store.Claim(context, 9));
    for (uint64_t done = 0; done < kTokens; done += step) {
      const auto count = static_cast<uint32_t>(std::min<uint64_t>(step, kTokens - done));
      ASSERT_OK(store.Append(context, claim, TestTokens(done, count, 64).columns(),
                             Durability::kInterval));
    }
    EXPECT_TRUE(read_codes(context) == codes) << context.spec.name;
    // What the tree sums is what a read gives.
    for (const auto& [first, end] :
         std::vector<std::pair<uint64_t, uint64_t>>{{0, kTokens}, {100, 700}, {3, 9}}) {
      ASSERT_OK_AND_ASSIGN(const TreeNode node, store.reader().Summarize(context, first, end));
      double sum = 0;
      for (uint64_t i = first; i < end; ++i) sum += values[i * 64];
      EXPECT_NEAR(node.sum[0], sum, 1e-3) << first;
    }
    // Rows stand alone, so that a repeat is known however it is cut.
    ASSERT_OK_AND_ASSIGN(claim, store.Claim(context, 1));
    for (const auto& [first, count] :
         std::vector<std::pair<uint64_t, uint32_t>>{{0, 100}, {55, 201}}) {
      ASSERT_OK_AND_ASSIGN(
          const AppendResult result,
          store.Append(context, claim, TestTokens(first, count, 64).columns(), Durability::kSync));
      EXPECT_TRUE(result.repeated);
    }
    EXPECT_THAT(store.Append(context, claim, TestTokens(0, 10, 64, /*seed=*/2).columns(),
                             Durability::kSync),
                StatusIs(absl::StatusCode::kAlreadyExists));
    ChunkMover mover(store);
    ASSERT_OK(mover.Demote(context, 0));
    EXPECT_TRUE(read_codes(context) == codes) << context.spec.name;
    ASSERT_OK(mover.Promote(context, 0));
    EXPECT_TRUE(read_codes(context) == codes) << context.spec.name;
  }
  node.reset();
  ASSERT_OK_AND_ASSIGN(node, ContextNode::Open(dir.path(), *files, clock));
  ASSERT_OK_AND_ASSIGN(const ContextRecord context, node->contexts().ByName(kTenant, "c7"));
  EXPECT_EQ(context.spec.stored, ElementType::kRotated4);
  EXPECT_TRUE(read_codes(context) == codes) << context.spec.name;
}

}  // namespace
}  // namespace mnemo
