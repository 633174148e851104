#include "index/vector/segment_file.h"

#include <string>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

SegmentHeader Header() {
  SegmentHeader header;
  header.shape = {4, ElementType::kFloat16, Metric::kCosine};
  header.rows = 10;
  header.nodes = 9;
  header.seed = 0x0102030405060708;
  return header;
}

std::string SmallFile() {
  static const std::string one = "one";
  SegmentFileWriter writer(Header());
  writer.Add(SegmentSection::kCentre, AsBytes(one));
  writer.Add(SegmentSection::kRows, {});
  return writer.Finish();
}

TEST(SegmentFileTest, HasTheBytesOfItsFormat) {
  const std::string file = SmallFile();
  ASSERT_EQ(file.size(), 64U + 2 * 32 + 3);
  EXPECT_EQ(file.substr(0, 4), "MNVS");
  EXPECT_EQ(LoadLittle<uint16_t>(&file[4]), 1);  // version
  EXPECT_EQ(file.substr(6, 6), std::string("\1\1\1\0\0\0", 6));
  EXPECT_EQ(LoadLittle<uint32_t>(&file[12]), 4U);   // dimension
  EXPECT_EQ(LoadLittle<uint32_t>(&file[16]), 10U);  // rows
  EXPECT_EQ(LoadLittle<uint32_t>(&file[20]), 9U);   // nodes
  EXPECT_EQ(LoadLittle<uint64_t>(&file[24]), 0x0102030405060708U);
  EXPECT_EQ(LoadLittle<uint32_t>(&file[32]), 2U);  // sections
  EXPECT_EQ(LoadLittle<uint64_t>(&file[36]), file.size());
  EXPECT_EQ(LoadLittle<uint32_t>(&file[64]), 1U);    // section
  EXPECT_EQ(LoadLittle<uint64_t>(&file[72]), 128U);  // offset
  EXPECT_EQ(LoadLittle<uint64_t>(&file[80]), 3U);    // bytes
  EXPECT_EQ(file.substr(128), "one");
}

TEST(SegmentFileTest, GivesBackWhatWasPutIn) {
  const std::string bytes = SmallFile();
  const auto file = SegmentFileReader::Open(AsBytes(bytes));
  ASSERT_OK(file);
  EXPECT_EQ(file->header().shape, Header().shape);
  EXPECT_EQ(file->header().rows, 10U);
  EXPECT_EQ(file->header().nodes, 9U);
  EXPECT_EQ(file->header().seed, Header().seed);
  EXPECT_EQ(AsText(*file->Get(SegmentSection::kCentre, 3)), "one");
  EXPECT_TRUE(file->Find(SegmentSection::kCodes).empty());
  EXPECT_THAT(file->Get(SegmentSection::kCentre, 4), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(SegmentFileTest, RefusesEveryFlippedBit) {
  const std::string bytes = SmallFile();
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(SegmentFileReader::Open(AsBytes(damaged)).ok()) << "bit " << bit;
  }
}

TEST(SegmentFileTest, RefusesEveryCutAndWhatFollowsTheEnd) {
  const std::string bytes = SmallFile();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(SegmentFileReader::Open(AsBytes(bytes).first(size)),
                StatusIs(absl::StatusCode::kDataLoss));
  }
  EXPECT_THAT(SegmentFileReader::Open(AsBytes(bytes + "x")), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(SegmentFileTest, RefusesALaterVersionByName) {
  std::string bytes = SmallFile();
  bytes[4] = 2;
  EXPECT_THAT(SegmentFileReader::Open(AsBytes(bytes)),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace mnemo
