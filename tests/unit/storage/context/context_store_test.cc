#include "storage/context/context_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "storage/context/chunk_mover.h"
#include "storage/context/context_keys.h"
#include "tests/support/context_fixture.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kTenant = 7;

class ContextStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { Reopen(); }
  void Reopen() {
    node_.reset();
    ASSERT_OK_AND_ASSIGN(node_, ContextNode::Open(dir_.path(), *files_, clock_));
  }
  ContextStore& store() { return node_->contexts(); }
  const ContextReader& reader() { return store().reader(); }
  ContextRecord Make(const std::string& name, ContextSpec spec = TestContext("")) {
    spec.name = name;
    auto made = store().Create(kTenant, spec);
    MNEMO_CHECK(made.ok());
    return made->first;
  }
  // Appends [first, first + count) of the test's stream in batches of `step`.
  absl::Status Append(const ContextRecord& context, uint64_t first, uint64_t count, uint32_t step) {
    MNEMO_ASSIGN_OR_RETURN(const WriterClaim claim, store().Claim(context, 99));
    for (uint64_t done = 0; done < count; done += step) {
      const auto now = static_cast<uint32_t>(std::min<uint64_t>(step, count - done));
      const TestTokens tokens(first + done, now, context.spec.dimension);
      MNEMO_RETURN_IF_ERROR(
          store().Append(context, claim, tokens.columns(), Durability::kInterval).status());
    }
    return absl::OkStatus();
  }
  size_t CountKeys(const ContextRecord& context, KeyKind kind) {
    size_t keys = 0;
    for (uint16_t shard = 0; shard < kShardCount; ++shard) {
      const StoredKey prefix(shard, kind, context.scope, "");
      EXPECT_OK(node_->stores().Of(context).Scan(prefix.bytes(), PrefixEnd(prefix.bytes()),
                                                 [&](const StoredKey&, std::string_view) {
                                                   ++keys;
                                                   return true;
                                                 }));
    }
    return keys;
  }

  TempDir dir_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  FakeClock clock_;
  std::unique_ptr<ContextNode> node_;
};

TEST_F(ContextStoreTest, CreatesOnceAndFindsByNameAndId) {
  ContextSpec spec = TestContext("book", 3);
  spec.labels = {{"kind", "book"}, {"lang", "en"}};
  ASSERT_OK_AND_ASSIGN(const auto made, store().Create(kTenant, spec));
  EXPECT_TRUE(made.second);
  ASSERT_OK_AND_ASSIGN(const auto again, store().Create(kTenant, spec));
  EXPECT_FALSE(again.second);
  EXPECT_EQ(again.first, made.first);
  Reopen();
  ASSERT_OK_AND_ASSIGN(const ContextRecord by_name, store().ByName(kTenant, "book"));
  EXPECT_EQ(by_name, made.first);
  ASSERT_OK_AND_ASSIGN(const ContextRecord by_id, store().ById(kTenant, made.first.scope.space));
  EXPECT_EQ(by_id, made.first);
  EXPECT_THAT(store().ByName(kTenant + 1, "book"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store().ById(kTenant + 1, made.first.scope.space),
              StatusIs(absl::StatusCode::kNotFound));
  spec.dimension = 4;
  EXPECT_THAT(store().Create(kTenant, spec), StatusIs(absl::StatusCode::kFailedPrecondition,
                                                      HasSubstr("dimension is 3, asked for 4")));
}

TEST_F(ContextStoreTest, OneOfManyCreatorsWins) {
  std::vector<std::thread> threads;
  std::array<uint64_t, 4> ids{};
  for (uint64_t& id : ids) {
    threads.emplace_back([&] { id = Make("shared").scope.space; });
  }
  for (std::thread& thread : threads) thread.join();
  for (const uint64_t id : ids) EXPECT_EQ(id, ids[0]);
}

TEST_F(ContextStoreTest, ListsByNameAndByEveryLabel) {
  for (int i = 0; i < 10; ++i) {
    ContextSpec spec = TestContext("");
    spec.labels = {{"even", i % 2 == 0 ? "yes" : "no"}, {"third", i % 3 == 0 ? "yes" : "no"}};
    Make("c" + std::to_string(i), spec);
  }
  Make("d");
  const auto names = [&](const Labels& labels, const std::string& after, size_t limit) {
    auto listed = store().List(kTenant, labels, after, limit);
    EXPECT_OK(listed);
    std::string joined;
    for (const ContextRecord& record : *listed) joined += record.spec.name + " ";
    return joined;
  };
  EXPECT_EQ(names({}, "", 3), "c0 c1 c2 ");
  EXPECT_EQ(names({}, "c8", 3), "c9 d ");
  EXPECT_EQ(names({{"even", "yes"}}, "", 100), "c0 c2 c4 c6 c8 ");
  EXPECT_EQ(names({{"even", "yes"}, {"third", "yes"}}, "", 100), "c0 c6 ");
  EXPECT_EQ(names({{"even", "yes"}, {"third", "yes"}}, "c0", 1), "c6 ");
  EXPECT_EQ(names({{"even", "ye"}}, "", 100), "");
}

TEST_F(ContextStoreTest, TokensComeBackHoweverTheyWereCut) {
  // Embeddings of a chunk as 1 value, 4, and 64.
  for (const uint32_t dimension : {8U, 100U, 2048U}) {
    const std::string name = "d" + std::to_string(dimension) + "step";
    const size_t groups = kChunkTokens / TestContext("", dimension).group_tokens();
    for (const uint32_t step : {1U, 7U, 128U, 129U, 1000U}) {
      const ContextRecord context = Make(name + std::to_string(step), TestContext("", dimension));
      ASSERT_OK(Append(context, 0, 1111, step));
      EXPECT_OK(CheckTestTokens(reader(), context, 1111)) << step;
      // 8 whole chunks; what is left of the last as fragments.
      const size_t tail = (1111 % 128 + step - 1) / step;
      EXPECT_GE(CountKeys(context, KeyKind::kChunk), 8 * (1 + groups) + 2U);
      EXPECT_LE(CountKeys(context, KeyKind::kChunk), 8 * (1 + groups) + 2 * (tail + 1)) << step;
      EXPECT_EQ(CountKeys(context, KeyKind::kTreeNode), 8 + 2U);
    }
    Reopen();
    ASSERT_OK_AND_ASSIGN(const ContextRecord context, store().ByName(kTenant, name + "7"));
    EXPECT_OK(CheckTestTokens(reader(), context, 1111));
    // It goes on where it was.
    ASSERT_OK(Append(context, 1111, 100, 9));
    EXPECT_OK(CheckTestTokens(reader(), context, 1211));
  }
}

TEST_F(ContextStoreTest, RangesOfTokensAreReadAlone) {
  const ContextRecord context = Make("c");
  ASSERT_OK(Append(context, 0, 1000, 300));
  std::vector<uint64_t> firsts;
  const auto visit = [&](ChunkPiece& piece) {
    EXPECT_EQ(piece.rows, nullptr);
    firsts.push_back(piece.columns.first_position);
    return true;
  };
  ASSERT_OK(reader().ScanChunks(context, 200, 385, false, visit));
  EXPECT_EQ(firsts, (std::vector<uint64_t>{128, 256, 384}));
  firsts.clear();
  ASSERT_OK(reader().ScanChunks(context, 5000, 6000, false, visit));
  EXPECT_TRUE(firsts.empty());
  ASSERT_OK_AND_ASSIGN(const auto rows, reader().ReadRows(context, 7 * kChunkTokens));
  ASSERT_FALSE(rows.empty());
  EXPECT_EQ(rows.front()->first_position(), 896U);
  EXPECT_EQ(rows.back()->end_position(), 1000U);
  ASSERT_OK_AND_ASSIGN(const auto none, reader().ReadRows(context, 8 * kChunkTokens));
  EXPECT_TRUE(none.empty());
}

TEST_F(ContextStoreTest, WholeChunksThatWereReadAreInRam) {
  const ContextRecord context = Make("c");
  ASSERT_OK(Append(context, 0, 300, 300));
  Level level;
  ASSERT_OK(reader().ReadRows(context, 128, &level));
  EXPECT_EQ(level, Level::kL3);
  ASSERT_OK(reader().ReadRows(context, 128, &level));
  EXPECT_EQ(level, Level::kL1);
}

TEST_F(ContextStoreTest, ARowIsReadWithItsGroupAndNoMore) {
  // 8 tokens a group.
  const ContextRecord context = Make("c", TestContext("", 512));
  ASSERT_OK(Append(context, 0, 300, 300));
  Level level;
  ASSERT_OK_AND_ASSIGN(auto rows, reader().ReadRows(context, 143, &level));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows.front()->first_position(), 136U);
  EXPECT_EQ(rows.front()->end_position(), 144U);
  EXPECT_EQ(level, Level::kL3);
  ASSERT_OK(reader().ReadRows(context, 136, &level));
  EXPECT_EQ(level, Level::kL1);
  ASSERT_OK(reader().ReadRows(context, 135, &level));
  EXPECT_EQ(level, Level::kL3);
  // A few tokens of a complete chunk are read with the groups that they lie in.
  std::vector<std::pair<uint64_t, uint32_t>> pieces;
  ASSERT_OK(reader().ScanChunks(context, 143, 145, true, [&](ChunkPiece& piece) {
    pieces.emplace_back(piece.columns.first_position, piece.columns.count);
    EXPECT_EQ(piece.rows->first_position(), 136U);
    EXPECT_EQ(piece.columns.id(0), TestTokens::Id(136));
    EXPECT_EQ(piece.level, Level::kL3);
    return true;
  }));
  EXPECT_THAT(pieces, ElementsAre(std::pair(136, 16)));
  // Of an unfinished chunk there are fragments, whose groups are kept all the same.
  ASSERT_OK_AND_ASSIGN(rows, reader().ReadRows(context, 257, &level));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows.front()->count(), 44U);
  ASSERT_OK_AND_ASSIGN(rows, reader().ReadRows(context, 258, &level));
  EXPECT_EQ(rows.front()->count(), 8U);
  EXPECT_EQ(level, Level::kL1);
  // The last four are not all of their group, and may become more.
  ASSERT_OK(reader().ReadRows(context, 299, &level));
  ASSERT_OK(reader().ReadRows(context, 299, &level));
  EXPECT_EQ(level, Level::kL3);
}

TEST_F(ContextStoreTest, WhatAMissingGroupHadIsMissingAndNothingElse) {
  const ContextRecord context = Make("c", TestContext("", 512));
  ASSERT_OK(Append(context, 0, 300, 300));
  const StoredKey key = ChunkKeyOf(context.scope, ChunkPart::kRows, 136);
  StoreBatch batch;
  batch.Delete(key);
  batch.Log({.shard = key.shard(), .kind = OperationKind::kMoveChunks, .key = key.bytes()});
  ASSERT_OK(node_->stores().sync->Apply(batch, false));
  const auto any = [](ChunkPiece&) { return true; };
  for (const auto& [first, end] : {std::pair(0, 300), std::pair(140, 141), std::pair(130, 150)}) {
    EXPECT_THAT(reader().ScanChunks(context, first, end, true, any),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("are missing")));
  }
  EXPECT_OK(reader().ScanChunks(context, 128, 136, true, any));
  EXPECT_OK(reader().ScanChunks(context, 144, 200, true, any));
  ASSERT_OK_AND_ASSIGN(const auto rows, reader().ReadRows(context, 140));
  for (const ChunkCache::RowsPtr& piece : rows) {
    EXPECT_TRUE(piece->first_position() > 140 || piece->end_position() <= 140);
  }
}

// At first all embeddings of a complete chunk were one value.
TEST_F(ContextStoreTest, ChunksThatAreOneValueAreReadAndMoved) {
  const ContextRecord context = Make("c", TestContext("", 512));
  ASSERT_OK(Append(context, 0, kRunTokens + 40, 777));
  const size_t grouped = CountKeys(context, KeyKind::kChunk);
  StoreBatch batch;
  for (uint64_t chunk = 0; chunk < kRunTokens / kChunkTokens; ++chunk) {
    const uint64_t first = chunk * kChunkTokens;
    std::string rows;
    const auto take = [&](ChunkPiece& piece) {
      rows = AsText(piece.rows->rows());
      return true;
    };
    ASSERT_OK(reader().ScanChunks(context, first, first + kChunkTokens, true, take));
    for (uint64_t i = 0; i < kChunkTokens; i += context.spec.group_tokens()) {
      batch.Delete(ChunkKeyOf(context.scope, ChunkPart::kRows, first + i));
    }
    const StoredKey key = ChunkKey(context.scope, ChunkPart::kRows, chunk, 0);
    batch.Put(key, EncodeChunkRows(first, kChunkTokens, context.spec.stored, 512, AsBytes(rows),
                                   SeedOf(key)));
    batch.Log({.shard = key.shard(), .kind = OperationKind::kMoveChunks, .key = key.bytes()});
  }
  ASSERT_OK(node_->stores().sync->Apply(batch, false));
  ASSERT_EQ(CountKeys(context, KeyKind::kChunk), grouped - 16 * 15);
  const auto check = [&](Level stored) {
    EXPECT_OK(CheckTestTokens(reader(), context, kRunTokens + 40));
    Level level;
    for (const uint64_t position : {300U, 389U, 1000U}) {
      auto rows = reader().ReadRows(context, position, &level);
      ASSERT_OK(rows);
      EXPECT_EQ(level, stored);
      rows = reader().ReadRows(context, position, &level);
      ASSERT_OK(rows);
      EXPECT_EQ(level, Level::kL1);
      EXPECT_EQ(rows->front()->count(), 8U);
      std::vector<float> row(512);
      DecodeRows(context.spec.stored, rows->front()->row(position % 8), 1, 512, row.data());
      EXPECT_EQ(row[5], TestTokens::Value(position, 5));
    }
    ASSERT_OK(reader().ScanChunks(context, 301, 320, true, [&](ChunkPiece& piece) {
      EXPECT_EQ(piece.columns.first_position, 296U);
      EXPECT_EQ(piece.rows->count(), 24U);
      return true;
    }));
  };
  check(Level::kL3);
  Reopen();
  ASSERT_OK(ChunkMover(store()).Demote(context, 0));
  check(Level::kDisk);
  Reopen();
  ASSERT_OK(ChunkMover(store()).Promote(context, 0));
  check(Level::kL3);
}

TEST_F(ContextStoreTest, ARepeatIsAcknowledgedAndChangesNothing) {
  const ContextRecord context = Make("c");
  ASSERT_OK(Append(context, 0, 300, 100));
  ASSERT_OK_AND_ASSIGN(const WriterClaim claim, store().Claim(context, 1));
  EXPECT_EQ(claim.next_position, 300U);
  // The last batch, an older one, and one cut differently.
  for (const auto& [first, count] :
       std::vector<std::pair<uint64_t, uint32_t>>{{200, 100}, {0, 100}, {50, 249}}) {
    const TestTokens tokens(first, count, 8);
    ASSERT_OK_AND_ASSIGN(const AppendResult result,
                         store().Append(context, claim, tokens.columns(), Durability::kSync));
    EXPECT_TRUE(result.repeated);
    EXPECT_EQ(result.next_position, 300U);
  }
  EXPECT_OK(CheckTestTokens(reader(), context, 300));
}

TEST_F(ContextStoreTest, OtherTokensAtThesePositionsAreRefused) {
  const ContextRecord context = Make("c");
  ASSERT_OK(Append(context, 0, 300, 100));
  ASSERT_OK_AND_ASSIGN(const WriterClaim claim, store().Claim(context, 1));
  const auto refused = [&](const TokenColumns& tokens) {
    EXPECT_THAT(store().Append(context, claim, tokens, Durability::kSync),
                StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("expected 300")));
  };
  refused(TestTokens(200, 100, 8, /*seed=*/2).columns());
  refused(TestTokens(0, 10, 8, /*seed=*/2).columns());
  refused(TestTokens(250, 100, 8).columns());  // half of it is there
  TestTokens other(0, 10, 8);
  other.importances()[3] = 0.7F;
  refused(other.columns());
  TokenColumns with_payload = TestTokens(0, 10, 8).columns();
  const TestTokens same(0, 10, 8);
  with_payload = same.columns();
  with_payload.payloads = {{0, 2, "text"}};
  refused(with_payload);
  EXPECT_OK(CheckTestTokens(reader(), context, 300));
}

TEST_F(ContextStoreTest, AGapSaysWhatIsExpected) {
  const ContextRecord context = Make("c");
  ASSERT_OK(Append(context, 0, 10, 10));
  ASSERT_OK_AND_ASSIGN(const WriterClaim claim, store().Claim(context, 1));
  const TestTokens tokens(11, 5, 8);
  EXPECT_THAT(
      store().Append(context, claim, tokens.columns(), Durability::kSync),
      StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("first_position is 11 (expected 10)")));
}

TEST_F(ContextStoreTest, ALaterClaimFencesEarlierOnesOfTheSameWriterToo) {
  const ContextRecord context = Make("c");
  const TestTokens tokens(0, 5, 8);
  EXPECT_THAT(store().Claim(context, 0), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(const WriterClaim first, store().Claim(context, 1));
  ASSERT_OK_AND_ASSIGN(const WriterClaim second, store().Claim(context, 1));
  EXPECT_THAT(store().Append(context, first, tokens.columns(), Durability::kSync),
              StatusIs(absl::StatusCode::kAborted));
  Reopen();
  EXPECT_OK(store().Append(context, second, tokens.columns(), Durability::kSync));
  ASSERT_OK(store().Claim(context, 2));
  EXPECT_THAT(store().Append(context, second, TestTokens(5, 5, 8).columns(), Durability::kSync),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("0000000000000002")));
}

TEST_F(ContextStoreTest, ASealedContextTakesNothingButRepeats) {
  const ContextRecord context = Make("c");
  ASSERT_OK(Append(context, 0, 10, 10));
  ASSERT_OK_AND_ASSIGN(const WriterClaim claim, store().Claim(context, 1));
  EXPECT_THAT(store().Seal(context), IsOk());
  ASSERT_OK_AND_ASSIGN(const uint64_t tokens, store().Seal(context));
  EXPECT_EQ(tokens, 10U);
  Reopen();
  EXPECT_THAT(store().Append(context, claim, TestTokens(10, 5, 8).columns(), Durability::kInterval),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("sealed")));
  ASSERT_OK_AND_ASSIGN(
      const AppendResult repeated,
      store().Append(context, claim, TestTokens(0, 10, 8).columns(), Durability::kInterval));
  EXPECT_TRUE(repeated.repeated);
  EXPECT_THAT(store().Claim(context, 2), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ContextStoreTest, AnyRangeIsSummarisedAsItsTokensAre) {
  const ContextRecord context = Make("c", TestContext("", 2));
  constexpr uint64_t kTokens = 2 * kRangeTokens + 3000;
  ASSERT_OK(Append(context, 0, kTokens, 8192));
  std::vector<double> sums(1, 0);  // of the first values, before each position
  for (uint64_t i = 0; i < kTokens; ++i) sums.push_back(sums.back() + TestTokens::Value(i, 0));
  for (const auto& [first, end] :
       std::vector<std::pair<uint64_t, uint64_t>>{{0, kTokens},
                                                  {1, kTokens - 1},
                                                  {0, 128},
                                                  {5, 9},
                                                  {127, 129},
                                                  {kRangeTokens - 1, kRangeTokens + 1},
                                                  {0, kRangeTokens},
                                                  {100, kRangeTokens + 700},
                                                  {512, 1024},
                                                  {kTokens - 10, kTokens + 10},
                                                  {0, 4 * kRangeTokens}}) {
    ASSERT_OK_AND_ASSIGN(const TreeNode node, reader().Summarize(context, first, end));
    const uint64_t real_end = std::min(end, kTokens);
    EXPECT_EQ(node.count, real_end - first);
    EXPECT_EQ(node.sum[0], static_cast<float>(sums[real_end] - sums[first])) << first << " " << end;
    EXPECT_EQ(node.first_time_unix_us, TestTokens::Time(first));
    EXPECT_EQ(node.last_time_unix_us, TestTokens::Time(real_end - 1));
  }
  ASSERT_OK_AND_ASSIGN(const TreeNode nothing, reader().Summarize(context, kTokens, kTokens + 1));
  EXPECT_EQ(nothing.count, 0U);
  // The tree has a third of a node a chunk beyond the leaves.
  const size_t leaves = kTokens / 128;
  EXPECT_GE(CountKeys(context, KeyKind::kTreeNode), leaves * 4 / 3 - 10);
  EXPECT_LE(CountKeys(context, KeyKind::kTreeNode), leaves * 4 / 3 + 1);
}

TEST_F(ContextStoreTest, PayloadsAreFoundByWhatTheyCover) {
  const ContextRecord context = Make("c");
  // Over the border of a range, so that two shards are involved.
  ASSERT_OK(Append(context, 0, kRangeTokens - 50, 8192));
  ASSERT_OK_AND_ASSIGN(const WriterClaim writer, store().Claim(context, 1));
  const TestTokens tokens(kRangeTokens - 50, 100, 8);
  TokenColumns columns = tokens.columns();
  const uint64_t first = columns.first_position;
  columns.payloads = {{first + 10, 5, "one"}, {first + 40, 20, "two"}, {first + 60, 1, "three"}};
  ASSERT_OK(store().Append(context, writer, columns, Durability::kInterval));
  const auto at = [&](uint64_t position) {
    auto payload = reader().PayloadAt(context, position);
    EXPECT_OK(payload);
    return payload->has_value() ? (*payload)->bytes : "none";
  };
  EXPECT_EQ(at(first + 9), "none");
  EXPECT_EQ(at(first + 10), "one");
  EXPECT_EQ(at(first + 14), "one");
  EXPECT_EQ(at(first + 15), "none");
  EXPECT_EQ(at(first + 40), "two");
  EXPECT_EQ(at(first + 59), "two");
  EXPECT_EQ(at(first + 60), "three");
  EXPECT_EQ(at(first + 61), "none");
  std::string all;
  ASSERT_OK(reader().ScanPayloads(context, first + 12, first + 61, [&](StoredPayload& payload) {
    all += payload.bytes + " ";
    return true;
  }));
  EXPECT_EQ(all, "one two three ");
  ASSERT_OK_AND_ASSIGN(const ContextHead head, reader().Head(context));
  EXPECT_EQ(head.payloads, 3U);
  EXPECT_EQ(head.payload_bytes, 11U);
  // The tree knows where payloads are.
  ASSERT_OK_AND_ASSIGN(const TreeNode with, reader().Summarize(context, first + 14, first + 15));
  EXPECT_TRUE(with.payloads);
  ASSERT_OK_AND_ASSIGN(const TreeNode without, reader().Summarize(context, 0, first + 10));
  EXPECT_FALSE(without.payloads);
  // A repeat with its payloads is one.
  ASSERT_OK_AND_ASSIGN(const AppendResult result,
                       store().Append(context, writer, columns, Durability::kInterval));
  EXPECT_TRUE(result.repeated);
}

TEST_F(ContextStoreTest, LinksAreFoundByWhatTheyTouch) {
  const ContextRecord context = Make("c");
  ASSERT_OK(Append(context, 0, 100, 100));
  const ContextLink one{
      .first_position = 0, .tokens_per_block = 16, .space = 5, .keys = {"a", "b"}};
  const ContextLink two{.first_position = 32, .tokens_per_block = 16, .space = 5, .keys = {"c"}};
  const ContextLink wide{
      .first_position = 0, .tokens_per_block = 50, .space = 6, .keys = {"x", "y"}};
  ASSERT_OK(store().PutLink(context, one));
  ASSERT_OK(store().PutLink(context, one));
  ASSERT_OK(store().PutLink(context, two));
  ASSERT_OK(store().PutLink(context, wide));
  const auto links = [&](uint64_t first, uint64_t end) {
    auto found = reader().Links(context, first, end);
    EXPECT_OK(found);
    return *found;
  };
  EXPECT_EQ(links(0, 100), (std::vector<ContextLink>{one, two, wide}));
  EXPECT_EQ(links(31, 32), (std::vector<ContextLink>{one, wide}));
  EXPECT_EQ(links(32, 33), (std::vector<ContextLink>{two, wide}));
  EXPECT_EQ(links(99, 200), (std::vector<ContextLink>{wide}));
  ContextLink bad = two;
  bad.first_position = 90;
  EXPECT_THAT(store().PutLink(context, bad), StatusIs(absl::StatusCode::kOutOfRange));
  bad.keys = {""};
  EXPECT_THAT(store().PutLink(context, bad), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ContextStoreTest, WhatIsDeletedIsGoneAtOnceAndItsKeysSoon) {
  for (const Durability durability : {Durability::kSync, Durability::kInterval}) {
    ContextSpec spec = TestContext("");
    spec.durability = durability;
    spec.labels = {{"a", "b"}};
    const ContextRecord context = Make("doomed", spec);
    const ContextRecord other = Make("other", spec);
    ASSERT_OK(Append(context, 0, kRangeTokens + 500, 8192));
    ASSERT_OK(Append(other, 0, 500, 100));
    ASSERT_OK_AND_ASSIGN(const WriterClaim claim, store().Claim(context, 1));
    ASSERT_OK_AND_ASSIGN(const uint64_t tokens, store().Delete(context));
    EXPECT_EQ(tokens, kRangeTokens + 500);
    ASSERT_OK_AND_ASSIGN(const uint64_t again, store().Delete(context));
    EXPECT_EQ(again, 0U);
    EXPECT_THAT(store().ByName(kTenant, "doomed"), StatusIs(absl::StatusCode::kNotFound));
    EXPECT_THAT(store().Append(context, claim, TestTokens(kRangeTokens + 500, 1, 8).columns(),
                               Durability::kSync),
                StatusIs(absl::StatusCode::kNotFound));
    ASSERT_OK_AND_ASSIGN(const auto listed, store().List(kTenant, {{"a", "b"}}, "", 10));
    EXPECT_EQ(listed.size(), 1U);
    // The same name may be given anew meanwhile, and is another context.
    const ContextRecord successor = Make("doomed", spec);
    EXPECT_NE(successor.scope, context.scope);
    // In steps, over a restart.
    int steps = 0;
    for (bool more = true; more; ++steps) {
      ASSERT_LT(steps, 100);
      if (steps == 1) Reopen();
      ASSERT_OK_AND_ASSIGN(more, store().EraseStep());
    }
    EXPECT_GE(steps, 3);
    for (const KeyKind kind :
         {KeyKind::kContextHead, KeyKind::kChunk, KeyKind::kTreeNode, KeyKind::kErasedContext}) {
      EXPECT_EQ(CountKeys(context, kind), 0U);
    }
    EXPECT_OK(CheckTestTokens(reader(), other, 500));
    ASSERT_OK(store().Delete(successor));
    ASSERT_OK(store().Delete(other));
  }
}

TEST_F(ContextStoreTest, DamageNamesContextAndTokens) {
  const ContextRecord context = Make("c");
  ASSERT_OK(Append(context, 0, 1000, 100));
  StoreBatch batch;
  const StoredKey rows = ChunkKey(context.scope, ChunkPart::kRows, 3, 0);
  batch.Put(rows, "damaged beyond recognition");
  batch.Log({.shard = rows.shard(), .kind = OperationKind::kMoveChunks, .key = rows.bytes()});
  ASSERT_OK(node_->stores().sync->Apply(batch, false));
  const auto any = [](ChunkPiece&) { return true; };
  EXPECT_THAT(reader().ScanChunks(context, 0, 1000, true, any),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("context 'c', tokens from 384")));
  EXPECT_THAT(reader().ReadRows(context, 3 * kChunkTokens), StatusIs(absl::StatusCode::kDataLoss));
  // What lies elsewhere is read all the same.
  EXPECT_OK(reader().ScanChunks(context, 0, 384, true, any));
  StoreBatch missing;
  missing.Delete(ChunkKey(context.scope, ChunkPart::kColumns, 5, 0));
  missing.Log({.shard = rows.shard(), .kind = OperationKind::kMoveChunks, .key = rows.bytes()});
  ASSERT_OK(node_->stores().sync->Apply(missing, false));
  EXPECT_THAT(reader().ScanChunks(context, 512, 1000, false, any),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("tokens 640 to 767 are missing")));
}

// Every change of a shard is told by its log.
TEST_F(ContextStoreTest, AppendsAreLoggedInEveryShardThatTheyChange) {
  // Ids are random: of one context in 256 both ranges lie in one shard.
  ContextRecord context = Make("c");
  for (int i = 0; ShardOfRange(context.scope, 0) == ShardOfRange(context.scope, 1); ++i) {
    context = Make("c" + std::to_string(i));
  }
  ASSERT_OK(Append(context, 0, kRangeTokens - 10, 8192));
  const uint16_t first = ShardOfRange(context.scope, 0);
  const uint16_t second = ShardOfRange(context.scope, 1);
  Store& log = *node_->stores().sync;
  const uint64_t before_first = log.LastSequence(first);
  const uint64_t before_second = log.LastSequence(second);
  ASSERT_OK(Append(context, kRangeTokens - 10, 20, 20));
  EXPECT_EQ(log.LastSequence(first), before_first + 2);  // the claim, too
  EXPECT_EQ(log.LastSequence(second), before_second + 1);
}

}  // namespace
}  // namespace mnemo
