#include "storage/tier/data_directory.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/fake_clock.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

class DataDirectoryTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<DataDirectory>> Open(uint64_t node_id = 77) {
    return DataDirectory::Open(path_, *files_, clock_, node_id);
  }
  void WriteIdentity(const std::string& contents) {
    ASSERT_OK(files_->CreateDirectory(path_));
    ASSERT_OK(ReplaceFile(*files_, path_ + "/IDENTITY", AsBytes(contents)));
  }

  TempDir dir_;
  const std::string path_ = dir_ / "a/data";
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  FakeClock clock_;
};

TEST_F(DataDirectoryTest, MakesAnEmptyOneAndKeepsItsIdentity) {
  NodeIdentity identity;
  {
    ASSERT_OK_AND_ASSIGN(const auto made, Open());
    EXPECT_TRUE(made->created());
    identity = made->identity();
    EXPECT_EQ(identity.node_id, 77u);
    EXPECT_EQ(identity.created, clock_.Wall());
  }
  clock_.Advance(std::chrono::hours(1));
  ASSERT_OK_AND_ASSIGN(const auto opened, Open(99));
  EXPECT_FALSE(opened->created());
  EXPECT_EQ(opened->identity(), identity);
}

TEST_F(DataDirectoryTest, SurvivesAPowerLossFromTheMomentItIsOpen) {
  std::filesystem::create_directories(dir_ / "graves");
  FaultFileSystem faulty(*files_, dir_ / "graves");
  { ASSERT_OK(DataDirectory::Open(path_, faulty, clock_, 77)); }
  ASSERT_OK(faulty.DropUnsynced());
  ASSERT_OK_AND_ASSIGN(const auto opened, DataDirectory::Open(path_, faulty, clock_, 99));
  EXPECT_EQ(opened->identity().node_id, 77u);
}

TEST_F(DataDirectoryTest, IsHeldByOneProcess) {
  ASSERT_OK_AND_ASSIGN(const auto first, Open());
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("locked by pid ")));
}

TEST_F(DataDirectoryTest, RefusesAnotherFormatNamingBoth) {
  NodeIdentity later{.format = 2, .node_id = 5};
  ASSERT_NO_FATAL_FAILURE(WriteIdentity(EncodeIdentity(later)));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition,
                               HasSubstr("format version 2, this build knows 1")));
}

TEST_F(DataDirectoryTest, RefusesADamagedIdentity) {
  const std::string good = EncodeIdentity({.node_id = 5, .created = {.nanos = 6}});
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(DecodeIdentity(AsBytes(bad)).ok()) << bit;
  }
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(DecodeIdentity(AsBytes(good).first(size)), StatusIs(absl::StatusCode::kDataLoss));
  }
  ASSERT_NO_FATAL_FAILURE(WriteIdentity(good.substr(0, 20)));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(path_)));
  ASSERT_NO_FATAL_FAILURE(WriteIdentity(std::string(10'000, 'x')));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("10000 bytes")));
}

TEST_F(DataDirectoryTest, MendsAnIdentityFromTheOtherCopy) {
  { ASSERT_OK(Open()); }
  ASSERT_OK_AND_ASSIGN(const std::string good, ReadSmallFile(*files_, path_ + "/IDENTITY", 100));
  for (const char* name : {"/IDENTITY", "/IDENTITY.mirror"}) {
    for (size_t bit = 0; bit < good.size() * 8; ++bit) {
      std::string bad = good;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
      ASSERT_OK(ReplaceFile(*files_, path_ + name, AsBytes(bad)));
      ASSERT_OK_AND_ASSIGN(const auto opened, Open(99));
      EXPECT_EQ(opened->identity().node_id, 77u) << name << " bit " << bit;
      EXPECT_EQ(*ReadSmallFile(*files_, path_ + name, 100), good) << name << " bit " << bit;
    }
  }
  // A whole identity of another version is no damage.
  ASSERT_NO_FATAL_FAILURE(WriteIdentity(EncodeIdentity({.format = 2, .node_id = 77})));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(DataDirectoryTest, DoesNotTakeSomebodyElsesFolder) {
  std::filesystem::create_directories(path_);
  std::ofstream(path_ + "/thesis.tex") << "years of work";
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("thesis.tex")));
}

TEST_F(DataDirectoryTest, FinishesAnInterruptedFirstStart) {
  std::filesystem::create_directories(path_);
  std::ofstream(path_ + "/IDENTITY.tmp") << "half";
  ASSERT_OK_AND_ASSIGN(const auto opened, Open());
  EXPECT_TRUE(opened->created());
}

TEST_F(DataDirectoryTest, NeedsANodeIdToMakeOne) {
  EXPECT_THAT(Open(0), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("node_id")));
}

TEST_F(DataDirectoryTest, GivesEachLevelAndClassItsFolder) {
  ASSERT_OK_AND_ASSIGN(const auto opened, Open());
  EXPECT_EQ(opened->InstancePath(Level::kL3, Durability::kCache), path_ + "/l3/cache");
  EXPECT_EQ(opened->InstancePath(Level::kL3, Durability::kInterval), path_ + "/l3/interval");
  EXPECT_EQ(opened->InstancePath(Level::kDisk, Durability::kSync), path_ + "/archive/sync");
}

}  // namespace
}  // namespace mnemo
