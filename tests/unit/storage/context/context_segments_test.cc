#include "storage/context/context_segments.h"

#include <gtest/gtest.h>

#include <set>

#include "storage/context/context_keys.h"
#include "storage/context/sealed_value.h"
#include "tests/support/context_fixture.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

constexpr uint64_t kRange = 3;

class ContextSegmentsTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(); }
  void Open() {
    node_.reset();
    ASSERT_OK_AND_ASSIGN(node_, ContextNode::Open(dir_.path(), *files_, clock_));
    ASSERT_OK_AND_ASSIGN(const auto made, contexts().Create(7, TestContext("c")));
    context_ = made.first;
  }
  ContextStore& contexts() { return node_->contexts(); }
  Store& store() { return node_->sync().store(); }

  // Bytes that differ by seed and from one another.
  static std::string Bytes(size_t size, char seed) {
    std::string bytes(size, seed);
    for (size_t i = 0; i < size; i += 1000) bytes[i] = static_cast<char>(i / 1000);
    return bytes;
  }
  static StoredSegment Rows(uint32_t first, uint32_t rows) {
    return {.first_row = first, .rows = rows, .kind = 2, .digest = first + 5};
  }
  SegmentRecord Replace(const SegmentRecord& before, std::vector<StoredSegment> kept,
                        const StoredSegment& added, const std::string& bytes) {
    ContextSegments segments(contexts());
    const auto record = segments.Replace(context_, kRange, before, std::move(kept), added,
                                         AsBytes(bytes), not_cancelled_);
    EXPECT_OK(record.status());
    return record.ok() ? *record : SegmentRecord{};
  }
  // Numbers of the segments of which any part is stored.
  std::multiset<uint64_t> PartsStored() {
    std::multiset<uint64_t> numbers;
    const StoredKey record = SegmentsKey(context_.scope, kRange);
    EXPECT_OK(store().Scan(record.bytes(), PrefixEnd(record.bytes()),
                           [&](const StoredKey& key, std::string_view) {
                             if (key != record) {
                               numbers.insert(LoadBig<uint64_t>(key.suffix().data() + 8));
                             }
                             return true;
                           }));
    return numbers;
  }
  std::string Loaded(const StoredSegment& segment) {
    const ContextSegments segments(contexts());
    const auto bytes = segments.Look(context_, kRange).Load(segment);
    EXPECT_OK(bytes.status());
    return bytes.ok() ? *bytes : "";
  }
  void Overwrite(const StoredKey& key, std::string value) {
    StoreBatch batch;
    batch.Put(key, std::move(value));
    batch.Log({.shard = key.shard(), .kind = OperationKind::kPutSegment, .key = key.bytes()});
    ASSERT_OK(store().Apply(batch, false));
  }

  const std::atomic<bool> not_cancelled_{false};
  TempDir dir_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  FakeClock clock_;
  std::unique_ptr<ContextNode> node_;
  ContextRecord context_;
};

TEST_F(ContextSegmentsTest, WhatWasStoredComesBackAfterARestart) {
  const std::string first = Bytes(2 * ContextSegments::kPartBytes + 17, 'a');
  const std::string second = Bytes(ContextSegments::kPartBytes, 'b');
  SegmentRecord record = Replace({}, {}, Rows(0, 500), first);
  record = Replace(record, record.segments, Rows(500, 100), second);
  Open();
  const ContextSegments segments(contexts());
  ASSERT_OK_AND_ASSIGN(const SegmentRecord read, segments.Read(context_, kRange));
  EXPECT_EQ(read, record);
  ASSERT_EQ(read.segments.size(), 2U);
  EXPECT_EQ(read.rows(), 600U);
  EXPECT_EQ(read.segments[0].digest, 5U);
  EXPECT_TRUE(Loaded(read.segments[0]) == first);
  EXPECT_TRUE(Loaded(read.segments[1]) == second);
  ASSERT_OK_AND_ASSIGN(const SegmentRecord other, segments.Read(context_, kRange + 1));
  EXPECT_EQ(other, SegmentRecord{});
}

TEST_F(ContextSegmentsTest, WhatIsReplacedGoesAndAViewStillHasIt) {
  SegmentRecord record = Replace({}, {}, Rows(0, 500), Bytes(ContextSegments::kPartBytes + 1, 'a'));
  record = Replace(record, record.segments, Rows(500, 100), Bytes(10, 'b'));
  EXPECT_EQ(PartsStored(), (std::multiset<uint64_t>{0, 0, 1}));
  const ContextSegments segments(contexts());
  const ContextSegments::View view = segments.Look(context_, kRange);
  const SegmentRecord after = Replace(record, {}, Rows(0, 600), Bytes(10, 'c'));
  EXPECT_EQ(PartsStored(), (std::multiset<uint64_t>{2}));
  ASSERT_EQ(after.segments.size(), 1U);
  ASSERT_OK_AND_ASSIGN(const SegmentRecord seen, view.Read());
  EXPECT_EQ(seen, record);
  EXPECT_OK(view.Load(seen.segments[0]).status());
  EXPECT_THAT(segments.Look(context_, kRange).Load(seen.segments[0]),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ContextSegmentsTest, WhatABrokenOffWriteLeftGoesWithTheNext) {
  SegmentRecord record = Replace({}, {}, Rows(0, 500), Bytes(10, 'a'));
  // As a crash between the parts and the record leaves it, twice.
  for (const uint64_t number : {1, 7}) {
    Overwrite(SegmentPartKey(context_.scope, kRange, number, 0), "half");
    Overwrite(SegmentPartKey(context_.scope, kRange, number, 1), "half");
  }
  record = Replace(record, record.segments, Rows(500, 100), Bytes(10, 'b'));
  EXPECT_EQ(PartsStored(), (std::multiset<uint64_t>{0, 1}));
  EXPECT_TRUE(Loaded(record.segments[1]) == Bytes(10, 'b'));
  // A record that cannot be read counts as empty: all goes.
  record = Replace({}, {}, Rows(0, 500), Bytes(10, 'c'));
  EXPECT_EQ(PartsStored(), (std::multiset<uint64_t>{0}));
}

TEST_F(ContextSegmentsTest, DamageIsTold) {
  const SegmentRecord record =
      Replace({}, {}, Rows(0, 500), Bytes(ContextSegments::kPartBytes + 50, 'a'));
  const StoredSegment& stored = record.segments[0];
  const StoredKey part = SegmentPartKey(context_.scope, kRange, stored.number, 1);
  ASSERT_OK_AND_ASSIGN(const std::string good, store().Get(part));
  const ContextSegments segments(contexts());
  const auto expect_lost = [&] {
    EXPECT_THAT(segments.Look(context_, kRange).Load(stored),
                StatusIs(absl::StatusCode::kDataLoss));
  };
  std::string bad = good;
  bad[20] ^= 1;
  Overwrite(part, bad);
  expect_lost();
  // Whole, but not of the length that was recorded.
  std::string shorter(1, '\1');
  SealValue(shorter, SeedOf(part));
  Overwrite(part, shorter);
  expect_lost();
  Overwrite(part, good);
  EXPECT_TRUE(Loaded(stored) == Bytes(ContextSegments::kPartBytes + 50, 'a'));
  const StoredKey key = SegmentsKey(context_.scope, kRange);
  ASSERT_OK_AND_ASSIGN(std::string value, store().Get(key));
  value[5] ^= 1;
  Overwrite(key, value);
  EXPECT_THAT(segments.Read(context_, kRange), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ContextSegmentsTest, NothingIsStoredForADeletedContext) {
  ASSERT_OK(contexts().Delete(context_).status());
  ContextSegments segments(contexts());
  EXPECT_THAT(
      segments.Replace(context_, kRange, {}, {}, Rows(0, 500), AsBytes("abc"), not_cancelled_),
      StatusIs(absl::StatusCode::kNotFound));
  EXPECT_TRUE(PartsStored().empty());
}

TEST_F(ContextSegmentsTest, ADeletedContextTakesItsSegmentsAlong) {
  ASSERT_OK_AND_ASSIGN(const WriterClaim claim, contexts().Claim(context_, 1));
  const TestTokens tokens(0, 200, 8);
  ASSERT_OK(contexts().Append(context_, claim, tokens.columns(), Durability::kSync).status());
  ContextSegments segments(contexts());
  ASSERT_OK(
      segments.Replace(context_, 0, {}, {}, Rows(0, 200), AsBytes("abc"), not_cancelled_).status());
  ASSERT_OK(contexts().Delete(context_).status());
  bool more = true;
  while (more) {
    ASSERT_OK_AND_ASSIGN(more, contexts().EraseStep());
  }
  const StoredKey record = SegmentsKey(context_.scope, 0);
  size_t keys = 0;
  ASSERT_OK(store().Scan(record.bytes(), PrefixEnd(record.bytes()),
                         [&](const StoredKey&, std::string_view) { return ++keys, true; }));
  EXPECT_EQ(keys, 0U);
}

TEST_F(ContextSegmentsTest, ACancelledWriteNamesNothing) {
  const std::atomic<bool> cancelled{true};
  ContextSegments segments(contexts());
  EXPECT_THAT(segments.Replace(context_, kRange, {}, {}, Rows(0, 500), AsBytes("abc"), cancelled),
              StatusIs(absl::StatusCode::kCancelled));
  ASSERT_OK_AND_ASSIGN(const SegmentRecord read, segments.Read(context_, kRange));
  EXPECT_EQ(read, SegmentRecord{});
}

TEST(SegmentRecordTest, FieldsOutOfTheirRangesAreDamage) {
  const SegmentRecord good{
      .next_number = 9,
      .segments = {{.number = 3, .first_row = 0, .rows = 10, .kind = 1, .bytes = 4, .digest = 1},
                   {.number = 8, .first_row = 10, .rows = 5, .kind = 2, .bytes = 4, .digest = 2}}};
  ASSERT_OK_AND_ASSIGN(const SegmentRecord read,
                       DecodeSegments(AsBytes(EncodeSegments(good, 1)), 1));
  EXPECT_EQ(read, good);
  EXPECT_THAT(DecodeSegments(AsBytes(EncodeSegments(good, 1)), 2),
              StatusIs(absl::StatusCode::kDataLoss));
  const auto damaged = [&](auto&& spoil) {
    SegmentRecord record = good;
    spoil(record.segments[1]);
    EXPECT_THAT(DecodeSegments(AsBytes(EncodeSegments(record, 1)), 1),
                StatusIs(absl::StatusCode::kDataLoss));
  };
  damaged([](StoredSegment& s) { s.number = 9; });
  damaged([](StoredSegment& s) { s.number = 3; });
  damaged([](StoredSegment& s) { s.first_row = 11; });
  damaged([](StoredSegment& s) { s.rows = 0; });
  damaged([](StoredSegment& s) { s.rows = kRangeTokens; });
  damaged([](StoredSegment& s) { s.bytes = 0; });
}

}  // namespace
}  // namespace mnemo
