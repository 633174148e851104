#include "storage/context/run_columns.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "tests/support/context_fixture.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

constexpr int64_t kFirst = std::numeric_limits<int64_t>::min();
constexpr int64_t kLast = std::numeric_limits<int64_t>::max();

// The chunks of a run whose kinds and times are what the functions say.
std::vector<ChunkColumns> RunOf(const std::function<uint8_t(uint64_t)>& kind,
                                const std::function<int64_t(uint64_t)>& time) {
  std::vector<ChunkColumns> chunks;
  for (uint64_t first = 0; first < kRunTokens; first += kChunkTokens) {
    ChunkColumns& chunk = chunks.emplace_back();
    chunk.first_position = first;
    chunk.count = kChunkTokens;
    for (uint64_t i = first; i < first + kChunkTokens; ++i) {
      chunk.kinds.push_back(kind(i));
      chunk.times_unix_us.push_back(time(i));
    }
  }
  return chunks;
}

void ExpectKeepsAsTheColumnsSay(const std::vector<ChunkColumns>& chunks, size_t most_bytes) {
  RunColumns run;
  for (const ChunkColumns& chunk : chunks) run.Add(chunk);
  ASSERT_OK(run.Finish());
  EXPECT_LE(run.memory_bytes(), most_bytes);
  std::mt19937_64 random(7);
  std::array<uint64_t, RunColumns::kWords> words;
  for (int round = 0; round < 60; ++round) {
    TokenCondition condition;
    for (bool& kind : condition.kinds) kind = round % 3 == 0 || random() % 2 == 0;
    const auto some_time = [&] {
      const ChunkColumns& chunk = chunks[random() % chunks.size()];
      return chunk.times_unix_us[random() % kChunkTokens];
    };
    if (round % 4 != 0) condition.first_time_unix_us = some_time();
    if (round % 5 != 0) condition.last_time_unix_us = some_time();
    run.Keep(condition, words);
    for (uint64_t i = 0; i < kRunTokens; ++i) {
      const bool kept = ((words[i / 64] >> (i % 64)) & 1) != 0;
      ASSERT_EQ(kept, condition.Keeps(chunks[i / kChunkTokens], i % kChunkTokens))
          << i << " in round " << round;
    }
  }
}

TEST(RunColumnsTest, KeepWhatTheColumnsSayHoweverTheyAreHeld) {
  std::mt19937_64 random(1);
  const auto kinds = [&](uint64_t) {
    return static_cast<uint8_t>(random() % kTokenKinds | (random() % 2 == 0 ? kPayloadBit : 0));
  };
  const auto one_kind = [](uint64_t) { return static_cast<uint8_t>(TokenKind::kUser); };
  const auto one_time = [](uint64_t) { return int64_t{-5}; };
  const auto near_times = [&](uint64_t) {
    return static_cast<int64_t>(random() % 1'000'000) - 500'000;
  };
  const auto far_times = [&](uint64_t i) { return static_cast<int64_t>(i) << 40; };
  const auto all_times = [&](uint64_t i) { return i % 3 == 0 ? kFirst : i % 3 == 1 ? kLast : 0; };
  ExpectKeepsAsTheColumnsSay(RunOf(one_kind, one_time), 200);
  ExpectKeepsAsTheColumnsSay(RunOf(kinds, one_time), 200 + kRunTokens);
  ExpectKeepsAsTheColumnsSay(RunOf(one_kind, near_times), 200 + 4 * kRunTokens);
  ExpectKeepsAsTheColumnsSay(RunOf(kinds, far_times), 200 + 9 * kRunTokens);
  ExpectKeepsAsTheColumnsSay(RunOf(kinds, all_times), 200 + 9 * kRunTokens);
}

TEST(RunColumnsTest, HalfARunIsDamage) {
  RunColumns run;
  run.Add(RunOf([](uint64_t) { return uint8_t{0}; }, [](uint64_t) { return int64_t{0}; }).front());
  EXPECT_THAT(run.Finish(), StatusIs(absl::StatusCode::kDataLoss));
}

class ReadColumnsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(node_, ContextNode::Open(dir_.path(), *files_, clock_));
    ASSERT_OK_AND_ASSIGN(const auto made, node_->contexts().Create(7, TestContext("c")));
    context_ = made.first;
    ASSERT_OK_AND_ASSIGN(const WriterClaim claim, node_->contexts().Claim(context_, 1));
    for (uint64_t at = 0; at < kTokens; at += 1000) {
      const auto count = static_cast<uint32_t>(std::min<uint64_t>(1000, kTokens - at));
      ASSERT_OK(node_->contexts().Append(context_, claim, TestTokens(at, count, 8).columns(),
                                         Durability::kSync));
    }
  }
  // Of the kind of token `i` alone.
  void ExpectRun(const RunColumns& run, uint64_t number) {
    for (const TokenKind kind : {TokenKind::kUser, TokenKind::kCode}) {
      TokenCondition condition;
      condition.kinds[static_cast<size_t>(kind)] = true;
      std::array<uint64_t, RunColumns::kWords> words;
      run.Keep(condition, words);
      for (uint64_t i = 0; i < kRunTokens; ++i) {
        ASSERT_EQ(((words[i / 64] >> (i % 64)) & 1) != 0,
                  TestTokens::Kind(number * kRunTokens + i) == kind)
            << i << " of run " << number;
      }
    }
  }
  const ContextReader& reader() { return node_->contexts().reader(); }

  static constexpr uint64_t kTokens = 5 * kRunTokens + 100;
  TempDir dir_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  FakeClock clock_;
  std::unique_ptr<ContextNode> node_;
  ContextRecord context_;
};

TEST_F(ReadColumnsTest, AreReadOnceAndTogetherWithWhatIsThere) {
  ASSERT_OK_AND_ASSIGN(const auto one, reader().ReadColumns(context_, 2, 3));
  ASSERT_EQ(one.size(), 1U);
  ASSERT_OK_AND_ASSIGN(const auto all, reader().ReadColumns(context_, 0, 5));
  ASSERT_EQ(all.size(), 5U);
  EXPECT_EQ(all[2], one[0]);
  for (uint64_t run = 0; run < 5; ++run) ExpectRun(*all[run], run);
  ASSERT_OK_AND_ASSIGN(const auto again, reader().ReadColumns(context_, 0, 5));
  EXPECT_EQ(again, all);
  EXPECT_THAT(reader().ReadColumns(context_, 4, 6), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_TRUE(reader().ReadColumns(context_, 3, 3)->empty());
}

}  // namespace
}  // namespace mnemo
