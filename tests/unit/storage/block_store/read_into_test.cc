// Reads that bring a part's bytes to a sink, each piece once it was checked.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/block_store_fixture.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSection = 100'000;
constexpr uint64_t kSize = 12 * kSection + 1;

// Keeps what it is given, and may refuse it.
class KeepingSink final : public PartSink {
 public:
  absl::Status Begin(const PartRead& part, uint64_t bytes) override {
    ++begun;
    header = part;
    text.assign(bytes, '.');
    return refuse_header;
  }
  absl::Status Take(uint64_t offset, const PinnedBytes& bytes) override {
    if (++taken == refuse_piece) return absl::NotFoundError("the sink is gone");
    for (const ByteView piece : bytes.pieces()) {
      text.replace(offset, piece.size(), AsText(piece));
      offset += piece.size();
    }
    return absl::OkStatus();
  }
  void ForEach(size_t count, const std::function<void(size_t)>& work) override {
    // From the last: no order may be relied upon.
    for (size_t i = count; i-- > 0;) work(i);
  }

  absl::Status refuse_header;
  int refuse_piece = 0;
  int begun = 0;
  int taken = 0;
  PartRead header;
  std::string text;
};

class ReadIntoTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(store_, BlockStore::Open(SmallStore(dir_ / "data"), files_, clock_,
                                                  [](const PartEvent&) {}));
  }
  PartKey Put(Durability durability = Durability::kCache) {
    const PartKey key = TestPart(1);
    WriteSpec spec = TestSpec(kSize, 3, durability);
    spec.layout.sizes.assign(12, kSection);
    spec.layout.sizes.push_back(1);
    payload_ = TestPayload(key, 0, kSize);
    EXPECT_OK(PutPart(*store_, key, payload_, spec));
    return key;
  }
  uint64_t UsesOf(const PartKey& key) { return store_->Describe(key)->uses; }
  // Decay of the copy in L1, at a byte of the payload.
  void Damage(const PartKey& key, uint64_t at) {
    const absl::StatusOr<PartRead> read = store_->Read(key, 0, 0);
    ASSERT_OK(read);
    ASSERT_EQ(read->level, Level::kL1);
    const PinnedBytes byte = read->bytes.Slice(at, 1);
    const_cast<uint8_t*>(byte.pieces()[0].data())[0] ^= 1;
  }

  TempDir dir_;
  UnsyncedFileSystem files_;
  FakeClock clock_;
  std::unique_ptr<BlockStore> store_;
  std::string payload_;
};

TEST_F(ReadIntoTest, BringsWhatReadAnswers) {
  const PartKey key = Put();
  for (const auto& [first, count] : {std::pair{0u, 0u}, {0u, 1u}, {5u, 3u}, {11u, 2u}, {12u, 0u}}) {
    KeepingSink sink;
    ASSERT_OK_AND_ASSIGN(const PartRead into, store_->ReadInto(key, first, count, sink));
    ASSERT_OK_AND_ASSIGN(const PartRead read, store_->Read(key, first, count));
    EXPECT_EQ(sink.text, read.bytes.ToString());
    EXPECT_EQ(into.bytes.ToString(), sink.text);
    EXPECT_EQ(sink.begun, 1);
    EXPECT_EQ(sink.header.digest, read.digest);
    EXPECT_EQ(sink.header.payload_bytes, kSize);
    EXPECT_EQ(sink.header.offset, first * kSection);
    EXPECT_EQ(sink.header.depth, 3u);
    EXPECT_EQ(sink.header.bytes.size(), 0u);
  }
  KeepingSink sink;
  EXPECT_THAT(store_->ReadInto(key, 13, 0, sink),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sections")));
  EXPECT_EQ(sink.begun, 0);
}

TEST_F(ReadIntoTest, ComesInPiecesOfSectionsThatBelongTogether) {
  KeepingSink sink;
  ASSERT_OK(store_->ReadInto(Put(), 0, 0, sink));
  // Three sections reach 256 KiB; the last section, of one byte, is alone.
  EXPECT_EQ(sink.taken, 5);
}

TEST_F(ReadIntoTest, IsAUseOnlyIfAllWasTaken) {
  const PartKey key = Put();
  const uint64_t before = UsesOf(key);
  KeepingSink refusing;
  refusing.refuse_header = absl::NotFoundError("no place");
  EXPECT_THAT(store_->ReadInto(key, 0, 0, refusing),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no place")));
  EXPECT_EQ(refusing.taken, 0);
  EXPECT_EQ(UsesOf(key), before);
  KeepingSink sink;
  ASSERT_OK(store_->ReadInto(key, 0, 0, sink));
  EXPECT_EQ(UsesOf(key), before + 1);
}

TEST_F(ReadIntoTest, ASinkThatFailsSaysNothingOfThePart) {
  const PartKey key = Put();
  KeepingSink sink;
  sink.refuse_piece = 2;
  // Not found is what damage is called too.
  EXPECT_THAT(store_->ReadInto(key, 0, 0, sink),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("the sink is gone")));
  EXPECT_EQ(sink.begun, 1);
  EXPECT_EQ(sink.taken, 2);
  EXPECT_EQ(store_->counters().corrupt_l1, 0u);
  KeepingSink again;
  ASSERT_OK(store_->ReadInto(key, 0, 0, again));
  EXPECT_EQ(again.text, payload_);
}

TEST_F(ReadIntoTest, DamagedPiecesAreNeverBrought) {
  const PartKey key = Put();
  Damage(key, 5 * kSection + 7);
  KeepingSink sink;
  EXPECT_THAT(store_->ReadInto(key, 0, 0, sink),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
  const std::string& text = sink.text;
  for (size_t i = 0; i < text.size(); ++i) {
    ASSERT_TRUE(text[i] == '.' || text[i] == payload_[i]) << i;
  }
  EXPECT_EQ(text[5 * kSection + 7], '.');
  EXPECT_EQ(store_->counters().corrupt_l1, 1u);
  EXPECT_THAT(store_->ReadInto(key, 0, 0, sink),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
}

TEST_F(ReadIntoTest, AnotherCopyIsReadFromTheBeginning) {
  const PartKey key = Put(Durability::kSync);
  Damage(key, 5 * kSection + 7);
  KeepingSink sink;
  ASSERT_OK_AND_ASSIGN(const PartRead read, store_->ReadInto(key, 0, 0, sink));
  EXPECT_EQ(read.level, Level::kL3);
  EXPECT_EQ(sink.begun, 2);
  EXPECT_EQ(sink.header.level, Level::kL3);
  EXPECT_EQ(sink.text, payload_);
}

}  // namespace
}  // namespace mnemo
