// Files that were cut or decayed: never wrong bytes, never silently empty.
#include <fmt/format.h>

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "storage/tier/instance.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tier_fixture.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kBlocks = 60;
constexpr int kFlips = 80;  // of each class

size_t SizeOf(uint64_t number) { return number % 7 == 0 ? 100'000 : 64 + number * 90; }

class DamageTest : public ::testing::TestWithParam<Durability> {
 protected:
  DamageTest() {
    for (const char* folder : {"image", "data", "graves"}) {
      std::filesystem::create_directories(dir_ / folder);
    }
  }

  // Cache puts are logged here, so that there is a log to damage.
  InstanceOptions Options() {
    InstanceOptions options = SmallInstance(dir_ / "data/i", GetParam());
    options.wal_for_cache_puts = true;
    return options;
  }

  // Blocks in tables, blob files and the log. With `clean`, closed in order;
  // otherwise as a killed process leaves it.
  void MakeImage(bool clean) {
    ASSERT_OK_AND_ASSIGN(auto instance,
                         Instance::Open(Options(), *posix_, clock_, *resources_, nullptr));
    for (uint64_t i = 0; i < kBlocks; ++i) {
      ASSERT_OK(PutTestBlock(instance->blocks(), i, SizeOf(i)));
      if (i == kBlocks / 2) {
        ASSERT_OK(instance->Flush());
      }
    }
    if (clean) {
      ASSERT_OK(instance->Close());
    }
    std::filesystem::copy(dir_ / "data", dir_ / "image", std::filesystem::copy_options::recursive);
    instance.reset();
  }

  void RestoreImage() {
    std::filesystem::remove_all(dir_ / "data");
    std::filesystem::copy(dir_ / "image", dir_ / "data", std::filesystem::copy_options::recursive);
  }

  absl::StatusOr<std::unique_ptr<Instance>> Open(FileSystem& files) {
    report_ = {};
    return Instance::Open(Options(), files, clock_, *resources_, &report_);
  }

  struct Found {
    uint64_t whole = 0;
    uint64_t missing = 0;  // said to be absent
    uint64_t damaged = 0;  // said to be damaged, or found to be by the checksum above
    uint64_t wrong = 0;    // whole, but of another size than was put
  };
  static Found ReadAll(Instance& instance) {
    Found found;
    for (uint64_t i = 0; i < kBlocks; ++i) {
      const auto bytes = instance.blocks().Get(TestKey(i), {});
      if (absl::IsNotFound(bytes.status())) {
        ++found.missing;
      } else if (!bytes.ok()) {
        EXPECT_THAT(bytes, StatusIs(absl::StatusCode::kDataLoss));
        ++found.damaged;
      } else if (!TestValueIsWhole(TestKey(i), bytes->ToString())) {
        ++found.damaged;
      } else {
        ++(bytes->size() == SizeOf(i) ? found.whole : found.wrong);
      }
    }
    return found;
  }

  std::vector<std::string> ImageFiles() const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ / "image")) {
      if (entry.is_regular_file() && entry.file_size() > 0) {
        files.push_back(std::filesystem::relative(entry.path(), dir_ / "image").string());
      }
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  // The newest log, and how long it is.
  std::pair<std::string, uint64_t> NewestLog() const {
    std::pair<std::string, uint64_t> newest;
    for (const std::string& file : ImageFiles()) {
      if (!file.ends_with(".log")) continue;
      newest = {file, std::filesystem::file_size(dir_ / ("image/" + file))};
    }
    return newest;
  }

  TempDir dir_;
  std::unique_ptr<FileSystem> posix_ = MakePosixFileSystem();
  FakeClock clock_;
  std::unique_ptr<TierResources> resources_ = MakeTestResources();
  OpenReport report_;
};

TEST_P(DamageTest, NeverGivesWrongBytesAfterABitFlipAnywhere) {
  ASSERT_NO_FATAL_FAILURE(MakeImage(false));
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  const std::vector<std::string> names = ImageFiles();
  int refused = 0;
  for (int flip = 0; flip < kFlips; ++flip) {
    RestoreImage();
    FaultFileSystem files(*posix_, dir_ / "graves");
    const std::string path = dir_ / ("data/" + names[flip % names.size()]);
    const uint64_t bit = random() % (8 * std::filesystem::file_size(path));
    SCOPED_TRACE(fmt::format("{} bit {}", path, bit));
    ASSERT_OK(files.FlipBit(path, bit));
    auto instance = Open(files);
    if (!instance.ok()) {
      ++refused;
      EXPECT_EQ(GetParam(), Durability::kSync) << "others start: " << instance.status();
      EXPECT_THAT(instance, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("repair:")));
      continue;
    }
    const Found found = ReadAll(**instance);
    EXPECT_EQ(found.wrong, 0u);
    if (GetParam() == Durability::kSync && found.missing > 0) {
      EXPECT_TRUE(report_.data_at_risk()) << found.missing << " blocks vanished silently";
    }
    (*instance)->Close().IgnoreError();
  }
  // Whatever is flipped in blob files, the second log and the like opens.
  EXPECT_LT(refused, kFlips / 2);
}

TEST_P(DamageTest, ManifestAndCurrentAreMendedFromTheSecondCopy) {
  ASSERT_NO_FATAL_FAILURE(MakeImage(true));
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  for (const std::string& name : ImageFiles()) {
    const bool mirror = name.ends_with(".mirror");
    if (name.find("MANIFEST-") == std::string::npos && !name.ends_with("CURRENT")) continue;
    for (int flip = 0; flip < 20; ++flip) {
      RestoreImage();
      const std::string path = dir_ / ("data/" + name);
      const uint64_t size = std::filesystem::file_size(path);
      // The last bytes, too: damage there looks like a write cut short.
      const uint64_t bit = flip < 4 ? 8 * size - 1 - random() % 64 : random() % (8 * size);
      SCOPED_TRACE(fmt::format("{} bit {}", path, bit));
      FaultFileSystem files(*posix_, dir_ / "graves");
      ASSERT_OK(files.FlipBit(path, bit));
      ASSERT_OK_AND_ASSIGN(const auto instance, Open(files));
      EXPECT_EQ(report_.manifest_mended, !mirror) << report_.detail;
      EXPECT_FALSE(report_.data_at_risk()) << report_.detail;
      EXPECT_EQ(ReadAll(*instance).whole, kBlocks);
      ASSERT_OK(instance->Close());
    }
    // Cut.
    RestoreImage();
    const std::string path = dir_ / ("data/" + name);
    std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
    ASSERT_OK_AND_ASSIGN(const auto instance, Open(*posix_));
    EXPECT_EQ(ReadAll(*instance).whole, kBlocks) << name;
    ASSERT_OK(instance->Close());
  }
}

TEST_P(DamageTest, ADamagedTableIsTakenOutAndTheRestGoesOn) {
  ASSERT_NO_FATAL_FAILURE(MakeImage(true));
  int tables = 0;
  for (const std::string& name : ImageFiles()) {
    if (!name.ends_with(".sst")) continue;
    ++tables;
    const std::string path = dir_ / ("data/" + name);
    const uint64_t size = std::filesystem::file_size(dir_ / ("image/" + name));
    // A data block, the properties or index behind it, and the footer.
    for (const uint64_t at : {uint64_t{10}, size / 2, size - 20}) {
      SCOPED_TRACE(fmt::format("{} byte {}", path, at));
      RestoreImage();
      FaultFileSystem files(*posix_, dir_ / "graves");
      ASSERT_OK(files.FlipBit(path, at * 8 + 3));
      auto opened = Open(files);
      if (GetParam() == Durability::kSync) {
        if (!opened.ok()) {
          EXPECT_THAT(opened, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("repair:")));
        }
        continue;
      }
      ASSERT_OK(opened);
      std::unique_ptr<Instance> instance = *std::move(opened);
      EXPECT_FALSE(report_.reset_after_damage) << report_.detail;
      Found found = ReadAll(*instance);
      EXPECT_EQ(found.wrong, 0u);
      EXPECT_GE(found.whole, kBlocks / 3) << "what lies in the log and in other tables";
      // What it lost its metadata of is swept, and everything works again.
      ASSERT_OK(instance->MaintainSpace());
      ASSERT_OK(instance->Compact());
      ASSERT_OK(instance->VerifyFiles());
      ASSERT_OK(PutTestBlock(instance->blocks(), kBlocks, 100));
      const uint64_t sequence = instance->store().LastSequence(TestKey(kBlocks).shard());
      ASSERT_OK(instance->Close());
      instance.reset();
      const bool dropped = report_.tables_dropped > 0;
      ASSERT_OK_AND_ASSIGN(instance, Open(files));
      EXPECT_FALSE(report_.data_at_risk()) << report_.detail;
      EXPECT_OK(instance->blocks().Get(TestKey(kBlocks), {}));
      // No sequence is given twice, whatever the log lost.
      if (dropped && GetParam() == Durability::kInterval) {
        EXPECT_GT(sequence, uint64_t{1} << 32);
      }
      found = ReadAll(*instance);
      EXPECT_EQ(found.damaged, 0u);
      ASSERT_OK(instance->Close());
    }
  }
  EXPECT_GE(tables, 2);
}

TEST_P(DamageTest, OpensALogThatIsCutAnywhereInItsLastRecord) {
  ASSERT_NO_FATAL_FAILURE(MakeImage(false));
  const auto [log, size] = NewestLog();
  ASSERT_GT(size, 0u);
  // The last block's record: payload, metadata and operation; a little before
  // it belongs to the one before.
  const uint64_t last_record = SizeOf(kBlocks - 1) + 600;
  const uint64_t step = 37;  // every residue of the 7-byte header and the fields is met
  for (uint64_t cut = 1; cut < last_record; cut += cut < 32 ? 1 : step) {
    SCOPED_TRACE(fmt::format("cut {} bytes", cut));
    RestoreImage();
    FaultFileSystem files(*posix_, dir_ / "graves");
    std::filesystem::resize_file(dir_ / ("data/" + log), size - cut);
    ASSERT_OK_AND_ASSIGN(auto instance, Open(files));
    const Found found = ReadAll(*instance);
    EXPECT_EQ(found.wrong + found.damaged, 0u);
    EXPECT_LE(found.missing, 2u);
    EXPECT_GE(found.missing, 1u);
    if (GetParam() == Durability::kSync) {
      EXPECT_TRUE(report_.wal_set_aside) << report_.detail;
      EXPECT_EQ(report_.writes_lost, 3 * found.missing) << report_.detail;
      ASSERT_OK_AND_ASSIGN(const auto kept, files.List(dir_ / "data/i/wal-set-aside"));
      EXPECT_EQ(kept.size(), 1u);
    }
    ASSERT_OK(instance->Close());
  }
}

TEST_P(DamageTest, SaysWhenTheMiddleOfALogIsDamaged) {
  ASSERT_NO_FATAL_FAILURE(MakeImage(false));
  const auto [log, size] = NewestLog();
  FaultFileSystem files(*posix_, dir_ / "graves");
  ASSERT_OK(files.FlipBit(dir_ / ("data/" + log), size / 2 * 8));
  ASSERT_OK_AND_ASSIGN(auto instance, Open(files));
  const Found found = ReadAll(*instance);
  EXPECT_GT(found.missing, 2u);
  EXPECT_GT(found.whole, kBlocks / 2) << "what was in tables, and before the damage";
  if (GetParam() == Durability::kSync) {
    EXPECT_TRUE(report_.wal_set_aside);
    EXPECT_EQ(report_.writes_lost, 3 * found.missing) << report_.detail;
  }
  // It goes on from there, and says nothing at the next start.
  ASSERT_OK(PutTestBlock(instance->blocks(), kBlocks, 100));
  ASSERT_OK(instance->Close());
  ASSERT_OK_AND_ASSIGN(instance, Open(files));
  EXPECT_FALSE(report_.data_at_risk()) << report_.detail;
  EXPECT_OK(instance->blocks().Get(TestKey(kBlocks), {}));
}

TEST_P(DamageTest, ALogGoneAfterACleanCloseIsNoticed) {
  if (GetParam() != Durability::kSync) GTEST_SKIP() << "only sync promises it";
  ASSERT_NO_FATAL_FAILURE(MakeImage(true));
  const auto [log, size] = NewestLog();
  RestoreImage();
  std::filesystem::remove(dir_ / ("data/" + log));
  ASSERT_OK_AND_ASSIGN(auto instance, Open(*posix_));
  EXPECT_TRUE(report_.data_at_risk());
  EXPECT_GT(report_.writes_lost, 0u);
}

TEST_P(DamageTest, BackgroundWorkThatMeetsADamagedBlockMakesItAMiss) {
  ASSERT_NO_FATAL_FAILURE(MakeImage(true));
  FaultFileSystem files(*posix_, dir_ / "graves");
  std::string blob;
  for (const std::string& name : ImageFiles()) {
    if (name.ends_with(".blob")) blob = dir_ / ("data/" + name);
  }
  ASSERT_FALSE(blob.empty());
  ASSERT_OK(files.FlipBit(blob, std::filesystem::file_size(blob) / 2 * 8));
  ASSERT_OK_AND_ASSIGN(auto instance, Open(files));
  EXPECT_THAT(instance->VerifyFiles(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(".blob")));
  EXPECT_THAT(instance->Compact(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_FALSE(PutTestBlock(instance->blocks(), kBlocks, 100).ok());

  ASSERT_OK(instance->MaintainSpace());
  EXPECT_EQ(instance->Stats().damaged_erased, 1u);
  ASSERT_OK(PutTestBlock(instance->blocks(), kBlocks, 100));
  const Found found = ReadAll(*instance);
  EXPECT_EQ(found.missing, 1u);
  EXPECT_EQ(found.whole, kBlocks - 1);
  ASSERT_OK(instance->Compact());
  EXPECT_OK(instance->VerifyFiles());
}

INSTANTIATE_TEST_SUITE_P(Classes, DamageTest,
                         ::testing::Values(Durability::kSync, Durability::kInterval,
                                           Durability::kCache),
                         [](const auto& info) {
                           return info.param == Durability::kSync       ? "Sync"
                                  : info.param == Durability::kInterval ? "Interval"
                                                                        : "Cache";
                         });

}  // namespace
}  // namespace mnemo
