#include "storage/tier/durable_mark.h"

#include <filesystem>
#include <string>

#include "storage/base/checksum.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

class DurableMarkTest : public ::testing::Test {
 protected:
  DurableMarkTest() {
    std::filesystem::create_directories(dir_ / "graves");
    std::filesystem::create_directories(dir_ / "data");
  }
  DurableMark::State Read() {
    const auto state = DurableMark::Read(files_, path_);
    EXPECT_OK(state);
    return state.ok() ? *state : DurableMark::State{};
  }

  TempDir dir_;
  std::unique_ptr<FileSystem> posix_ = MakePosixFileSystem();
  FaultFileSystem files_{*posix_, dir_ / "graves"};
  const std::string path_ = dir_ / "data/DURABLE";
};

TEST_F(DurableMarkTest, AnAbsentMarkIsNoError) { EXPECT_FALSE(Read().present); }

TEST_F(DurableMarkTest, RemembersTheLastAndWhetherItWasClosed) {
  ASSERT_OK_AND_ASSIGN(auto mark, DurableMark::Start(files_, path_, 10));
  EXPECT_EQ(Read().sequence, 10u);
  EXPECT_FALSE(Read().clean);
  mark->Advance(12);
  mark->Advance(11);  // another thread, later
  EXPECT_EQ(Read().sequence, 12u);
  ASSERT_OK(mark->Finish(15));
  EXPECT_EQ(Read().sequence, 15u);
  EXPECT_TRUE(Read().clean);
  EXPECT_FALSE(Read().damaged);
}

TEST_F(DurableMarkTest, StaysSmall) {
  ASSERT_OK_AND_ASSIGN(auto mark, DurableMark::Start(files_, path_, 0));
  for (uint64_t i = 1; i <= 10'000; ++i) mark->Advance(i);
  EXPECT_EQ(Read().sequence, 10'000u);
  ASSERT_OK_AND_ASSIGN(const uint64_t size, files_.FileSize(path_));
  EXPECT_LE(size, 64u * 1024);
}

TEST_F(DurableMarkTest, IsAtMostOneIntervalBehindAfterAPowerLoss) {
  ASSERT_OK_AND_ASSIGN(auto mark, DurableMark::Start(files_, path_, 0));
  for (uint64_t i = 1; i <= 1000; ++i) mark->Advance(i);
  mark.reset();
  ASSERT_OK(files_.DropUnsynced());
  EXPECT_LE(Read().sequence, 1000u);
  EXPECT_GT(Read().sequence, 1000u - DurableMark::kSyncInterval);
}

TEST_F(DurableMarkTest, ATornRecordIsNotThere) {
  ASSERT_OK_AND_ASSIGN(auto mark, DurableMark::Start(files_, path_, 5));
  mark->Advance(6);
  mark.reset();
  ASSERT_OK_AND_ASSIGN(const uint64_t size, files_.FileSize(path_));
  for (uint64_t cut = 1; cut <= 24; ++cut) {
    ASSERT_OK_AND_ASSIGN(auto file, posix_->OpenForWrite(path_, FileSystem::WriteMode::kAppend));
    ASSERT_OK(file->Truncate(size - cut));
    EXPECT_EQ(Read().sequence, 5u);
    EXPECT_FALSE(Read().damaged);
  }
}

TEST_F(DurableMarkTest, AFlippedBitNeverRaisesTheMarkOrMakesItClean) {
  ASSERT_OK_AND_ASSIGN(auto mark, DurableMark::Start(files_, path_, 5));
  mark->Advance(6);
  mark.reset();
  ASSERT_OK_AND_ASSIGN(const uint64_t size, files_.FileSize(path_));
  for (uint64_t bit = 0; bit < size * 8; ++bit) {
    ASSERT_OK(files_.FlipBit(path_, bit));
    EXPECT_LE(Read().sequence, 6u) << bit;
    EXPECT_TRUE(Read().damaged) << bit;
    EXPECT_FALSE(Read().clean) << bit;
    ASSERT_OK(files_.FlipBit(path_, bit));
  }
}

TEST_F(DurableMarkTest, CountsFailuresAndCatchesUp) {
  ASSERT_OK_AND_ASSIGN(auto mark, DurableMark::Start(files_, path_, 5));
  files_.FailAfter(0);
  mark->Advance(6);
  mark->Advance(7);
  EXPECT_EQ(mark->failures(), 2u);
  files_.Heal();
  mark->Advance(8);
  EXPECT_EQ(mark->failures(), 2u);
  EXPECT_EQ(Read().sequence, 8u);
}

TEST_F(DurableMarkTest, RefusesAnotherVersionNamingBoth) {
  std::string header = "MNEMOMRK";
  AppendLittle<uint32_t>(header, 2);
  AppendLittle<uint32_t>(header, static_cast<uint32_t>(
                                     Checksum64(AsBytes(header), 0x6d6e656d6f6d726b)));
  ASSERT_OK(ReplaceFile(files_, path_, AsBytes(header)));
  EXPECT_THAT(DurableMark::Read(files_, path_),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("version 2, this build reads 1")));
}

}  // namespace
}  // namespace mnemo
