// Every golden data directory in tests/data opens in this build, and holds what
// its release wrote. A folder that fails here is data that users would lose.
#include "storage/tier/data_directory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/contract/golden/golden_record.h"
#include "tests/contract/golden/golden_scenario.h"
#include "tests/support/block_store_fixture.h"

namespace mnemo {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kMostBytes = 1 * kMiB;

std::vector<std::string> GoldenDirectories() {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(MNEMO_TEST_DATA)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("data_directory_")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

class GoldenDirectoryTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const fs::path golden = fs::path(MNEMO_TEST_DATA) / GetParam();
    fs::copy(golden / "data", data_, fs::copy_options::recursive);
    std::ifstream(golden / "expected.json") >> expected_;
    for (const Json& part : expected_["parts"]) {
      ASSERT_OK_AND_ASSIGN(const PartKey key, PartNamed(part["name"]));
      parts_.push_back(key);
    }
    for (const Json& space : expected_["spaces"]) tenants_.insert(space["tenant"].get<uint64_t>());
    clock_.JumpWall(Nanos(expected_["clock_unix_ns"].get<int64_t>() - clock_.Wall().nanos));
  }
  absl::Status Open() {
    MNEMO_ASSIGN_OR_RETURN(store_,
                           BlockStore::Open(GoldenOptions(data_), *files_, clock_, nullptr));
    MNEMO_ASSIGN_OR_RETURN(spaces_, SpaceRegistry::Load(store_->state(), clock_));
    return absl::OkStatus();
  }
  absl::Status Close() {
    spaces_.reset();
    MNEMO_RETURN_IF_ERROR(store_->Close());
    store_.reset();
    return absl::OkStatus();
  }
  void ExpectAsRecorded() {
    ASSERT_OK_AND_ASSIGN(Json seen, Observe(*store_, *spaces_, tenants_, parts_));
    seen["clock_unix_ns"] = clock_.Wall().nanos;
    EXPECT_THAT(Contradictions(expected_, seen), IsEmpty());
  }

  TempDir dir_;
  const std::string data_ = dir_ / "data";
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  FakeClock clock_;
  Json expected_;
  std::vector<PartKey> parts_;
  std::set<uint64_t> tenants_;
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<SpaceRegistry> spaces_;
};

TEST_P(GoldenDirectoryTest, HoldsWhatItsReleaseWrote) {
  ASSERT_OK(Open());
  EXPECT_TRUE(store_->recovery().clean) << store_->recovery().detail;
  ExpectAsRecorded();
}

// What this build writes into it does not spoil what is there.
TEST_P(GoldenDirectoryTest, IsWrittenToAndStillHoldsIt) {
  ASSERT_OK(Open());
  const PartKey key = TestPart(1'000'000);
  ASSERT_OK(PutPart(*store_, key, TestPayload(key, 0, 5000), TestSpec(5000, 0, Durability::kSync)));
  ASSERT_OK(Close());
  ASSERT_OK(Open());
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadAll(*store_, key));
  EXPECT_EQ(bytes, TestPayload(key, 0, 5000));
  expected_["parts_in_all"] = expected_["parts_in_all"].get<uint64_t>() + 1;
  // The put is in the log as well.
  expected_.erase("log");
  ExpectAsRecorded();
}

TEST_P(GoldenDirectoryTest, ItsPartsExpireWhenTheyWereToldTo) {
  ASSERT_OK(Open());
  int64_t last = 0;
  for (const Json& part : expected_["parts"]) {
    if (part["present"]) last = std::max(last, part["expires_unix_seconds"].get<int64_t>());
  }
  ASSERT_GT(last, clock_.Wall().nanos / 1'000'000'000);
  clock_.Advance(std::chrono::seconds(last + 2) - Nanos(clock_.Wall().nanos));
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Json& part = expected_["parts"][i];
    const bool stays = part["present"] && part["expires_unix_seconds"] == 0;
    EXPECT_EQ(store_->Describe(parts_[i]).has_value(), stays) << part.dump();
  }
}

TEST_P(GoldenDirectoryTest, IsSmallAndTellsNothingOfTheMachineThatMadeIt) {
  uint64_t bytes = 0;
  for (const fs::directory_entry& entry :
       fs::recursive_directory_iterator(fs::path(MNEMO_TEST_DATA) / GetParam())) {
    if (!entry.is_regular_file()) continue;
    bytes += entry.file_size();
    const std::string name = entry.path().filename().string();
    EXPECT_FALSE(name == "LOCK" || name.starts_with("LOG") || name.starts_with("OPTIONS-"))
        << entry.path();
  }
  EXPECT_LT(bytes, kMostBytes);
}

TEST_P(GoldenDirectoryTest, OfALaterVersionIsRefusedWithBothVersions) {
  NodeIdentity later{.format = kDataDirectoryFormat + 1, .node_id = 1};
  const std::string bytes = EncodeIdentity(later);
  for (const std::string name : {"/IDENTITY", "/IDENTITY.mirror"}) {
    ASSERT_OK(ReplaceFile(*files_, data_ + name, AsBytes(bytes)));
  }
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition,
                               AllOf(HasSubstr(data_), HasSubstr("format version 2"),
                                     HasSubstr("this build knows 1"))));
}

INSTANTIATE_TEST_SUITE_P(All, GoldenDirectoryTest, testing::ValuesIn(GoldenDirectories()),
                         [](const auto& parameter) { return parameter.param; });

// The first of them, and none is ever taken away.
TEST(GoldenDirectoriesTest, TheFirstReleaseLeftOne) {
  EXPECT_THAT(GoldenDirectories(), testing::Contains("data_directory_0_1"));
}

// The record is only as good as its comparison.
TEST(GoldenRecordTest, NamesWhatDiffers) {
  const Json recorded = {{"a", {{{"b", 1}, {"created_unix_seconds", 10}}}}, {"c", "x"}};
  Json seen = {{"a", {{{"b", 1}, {"created_unix_seconds", 11}, {"later", true}}}}, {"c", "x"}};
  EXPECT_THAT(Contradictions(recorded, seen), IsEmpty());
  seen["a"][0]["b"] = 2;
  EXPECT_THAT(Contradictions(recorded, seen), testing::ElementsAre("a[0].b: 2, recorded 1"));
  seen["a"][0] = {{"b", 1}, {"created_unix_seconds", 12}};
  seen.erase("c");
  EXPECT_THAT(Contradictions(recorded, seen),
              testing::ElementsAre("a[0].created_unix_seconds: 12, recorded 10",
                                   "c: absent, recorded \"x\""));
  seen = recorded;
  seen["a"].push_back(1);
  EXPECT_THAT(Contradictions(recorded, seen), testing::SizeIs(1));
}

}  // namespace
}  // namespace mnemo
