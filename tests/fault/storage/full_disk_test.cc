// A disk that fills up or fails for a while: writes are refused, reads go on,
// and writes come back without a restart.
#include <filesystem>
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

class FullDiskTest : public ::testing::TestWithParam<Durability> {
 protected:
  FullDiskTest() { std::filesystem::create_directories(dir_ / "graves"); }

  std::unique_ptr<Instance> Open(const InstanceOptions& options) {
    report_ = {};
    auto instance = Instance::Open(options, files_, clock_, *resources_, &report_);
    EXPECT_OK(instance);
    reopened_ = instance.ok() && !report_.created;
    return instance.ok() ? *std::move(instance) : nullptr;
  }
  void LosePowerAndOpen(std::unique_ptr<Instance>& instance) {
    files_.SetDead(true);
    instance.reset();
    files_.SetDead(false);
    ASSERT_OK(files_.DropUnsynced());
    instance = Open(Options());
    ASSERT_NE(instance, nullptr);
  }
  InstanceOptions Options() { return SmallInstance(dir_ / "data/i", GetParam()); }

  // Puts blocks from `first` on until one is refused; returns how many were taken.
  uint64_t PutUntilRefused(Instance& instance, uint64_t first, uint64_t limit,
                           absl::Status& refusal) {
    for (uint64_t i = 0; i < limit; ++i) {
      refusal = PutTestBlock(instance.blocks(), first + i, 20'000);
      if (!refusal.ok()) return i;
    }
    return limit;
  }

  // A cache that was opened anew may have lost what was never flushed.
  void ExpectBlocks(Instance& instance, uint64_t first, uint64_t count) {
    const bool reopened = instance.Stats().resumes > 0 || reopened_;
    for (uint64_t i = first; i < first + count; ++i) {
      const auto bytes = instance.blocks().Get(TestKey(i), {});
      if (GetParam() == Durability::kCache && reopened && absl::IsNotFound(bytes.status())) {
        continue;
      }
      ASSERT_OK(bytes) << "block " << i;
      EXPECT_EQ(bytes->ToString(), TestValue(TestKey(i), 0, 20'000));
    }
  }

  TempDir dir_;
  std::unique_ptr<FileSystem> posix_ = MakePosixFileSystem();
  FaultFileSystem files_{*posix_, dir_ / "graves"};
  FakeClock clock_;
  std::unique_ptr<TierResources> resources_ = MakeTestResources();
  OpenReport report_;
  bool reopened_ = false;
};

TEST_P(FullDiskTest, TakesWritesAgainWhenSpaceReturns) {
  auto instance = Open(Options());
  ASSERT_NE(instance, nullptr);
  files_.NoSpaceAfter(3'000'000);
  absl::Status refusal;
  const uint64_t taken = PutUntilRefused(*instance, 0, 1000, refusal);
  ASSERT_LT(taken, 1000u);
  EXPECT_THAT(refusal, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(PutTestBlock(instance->blocks(), 5000, 100),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_FALSE(instance->Stats().writable.ok());
  ASSERT_NO_FATAL_FAILURE(ExpectBlocks(*instance, 0, taken));
  EXPECT_THAT(instance->MaintainSpace(), StatusIs(absl::StatusCode::kResourceExhausted));

  files_.Heal();
  ASSERT_OK(instance->MaintainSpace());
  ASSERT_OK(PutTestBlock(instance->blocks(), 2000, 20'000));
  EXPECT_EQ(instance->Stats().resumes, 1u);
  EXPECT_OK(instance->Stats().writable);
  ASSERT_NO_FATAL_FAILURE(ExpectBlocks(*instance, 0, taken));
  ASSERT_OK(instance->Close());

  instance = Open(Options());
  ASSERT_NE(instance, nullptr);
  EXPECT_FALSE(report_.data_at_risk()) << report_.detail;
  ASSERT_NO_FATAL_FAILURE(ExpectBlocks(*instance, 0, taken));
  ASSERT_NO_FATAL_FAILURE(ExpectBlocks(*instance, 2000, 1));
}

TEST_P(FullDiskTest, KeepsAReserveAndGoesOnOnlyWellAboveIt) {
  InstanceOptions options = Options();
  options.reserve_bytes = 40ull << 20;
  auto instance = Open(options);
  ASSERT_NE(instance, nullptr);
  files_.NoSpaceAfter((40ull << 20) + 4'000'000);
  absl::Status refusal;
  const uint64_t taken = PutUntilRefused(*instance, 0, 1000, refusal);
  ASSERT_LT(taken, 1000u);
  EXPECT_THAT(refusal,
              StatusIs(absl::StatusCode::kResourceExhausted, ::testing::HasSubstr("reserve")));
  // Small state and deletion go on, from the reserve.
  EXPECT_OK(instance->Stats().writable);
  EXPECT_OK(instance->blocks().Erase(TestKey(0), {}));
  EXPECT_OK(instance->Flush());

  files_.NoSpaceAfter(42ull << 20);
  EXPECT_THAT(PutTestBlock(instance->blocks(), 2000, 20'000),
              StatusIs(absl::StatusCode::kResourceExhausted))
      << "above the reserve, but not by a quarter";
  files_.NoSpaceAfter(60ull << 20);
  EXPECT_OK(PutTestBlock(instance->blocks(), 2000, 20'000));
}

TEST_P(FullDiskTest, AFailedSyncIsNeverTakenForSuccess) {
  auto instance = Open(Options());
  ASSERT_NE(instance, nullptr);
  ASSERT_OK(PutTestBlock(instance->blocks(), 0, 20'000));
  ASSERT_OK(instance->blocks().Sync());
  files_.FailSyncs(1);
  if (GetParam() != Durability::kInterval) {
    const absl::Status put = PutTestBlock(instance->blocks(), 1, 20'000);
    const absl::Status synced = put.ok() ? instance->blocks().Sync() : put;
    EXPECT_THAT(synced, StatusIs(absl::StatusCode::kUnavailable));
  } else {
    // The periodic sync may meet the failure first; either way it is told.
    const absl::Status put = PutTestBlock(instance->blocks(), 1, 20'000);
    EXPECT_FALSE(put.ok() && instance->blocks().Sync().ok());
  }
  EXPECT_FALSE(instance->blocks().Sync().ok()) << "the failure is not forgotten";

  ASSERT_OK(instance->MaintainSpace());
  ASSERT_OK(PutTestBlock(instance->blocks(), 2, 20'000));
  ASSERT_OK(instance->blocks().Sync());
  ASSERT_NO_FATAL_FAILURE(LosePowerAndOpen(instance));
  EXPECT_FALSE(report_.data_at_risk()) << report_.detail;
  ASSERT_NO_FATAL_FAILURE(ExpectBlocks(*instance, 0, 1));
  ASSERT_NO_FATAL_FAILURE(ExpectBlocks(*instance, 2, 1));
}

// What was refused is seen all the same: the log was lost, the memory was not.
TEST_P(FullDiskTest, AnErasureThatWasRefusedIsNotDoneTheSecondTime) {
  InstanceOptions options = Options();
  options.interval_sync_period = std::chrono::seconds(60);
  auto instance = Open(options);
  ASSERT_NE(instance, nullptr);
  ASSERT_OK(PutTestBlock(instance->blocks(), 0, 20'000));
  ASSERT_OK(instance->blocks().Sync());
  files_.FailSyncs(1);
  absl::Status erased = instance->blocks().Erase(TestKey(0), {});
  if (erased.ok()) erased = instance->blocks().Sync();  // where that is what makes it durable
  ASSERT_THAT(erased, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(instance->blocks().Erase(TestKey(0), {}), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(instance->blocks().Get(TestKey(0), {}), StatusIs(absl::StatusCode::kUnavailable))
      << "not kNotFound, which would be taken for damage";

  ASSERT_OK(instance->MaintainSpace());
  ASSERT_OK(instance->blocks().Erase(TestKey(0), {}));
  ASSERT_OK(instance->blocks().Sync());
  ASSERT_NO_FATAL_FAILURE(LosePowerAndOpen(instance));
  EXPECT_THAT(instance->blocks().Get(TestKey(0), {}), StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(FullDiskTest, SurvivesTheFailureOfEveryNthWrite) {
  for (uint64_t n = 0; n < 60; n += 3) {
    SCOPED_TRACE(testing::Message() << "n " << n);
    auto instance = Open(Options());
    ASSERT_NE(instance, nullptr);
    const uint64_t first = 10'000 * (n + 1);
    files_.FailAfter(n);
    absl::Status refusal;
    const uint64_t taken = PutUntilRefused(*instance, first, 100, refusal);
    if (refusal.ok()) refusal = instance->Flush();
    // A cache writes less often than that before it is through.
    EXPECT_TRUE(!refusal.ok() || (GetParam() == Durability::kCache && n > 30));
    ASSERT_NO_FATAL_FAILURE(ExpectBlocks(*instance, first, taken));
    files_.Heal();
    ASSERT_OK(instance->MaintainSpace());
    ASSERT_OK(PutTestBlock(instance->blocks(), first + 1000, 20'000));
    ASSERT_NO_FATAL_FAILURE(ExpectBlocks(*instance, first, taken));
    ASSERT_OK(instance->Close());
    instance = Open(Options());
    ASSERT_NE(instance, nullptr);
    EXPECT_FALSE(report_.data_at_risk()) << report_.detail;
    ASSERT_NO_FATAL_FAILURE(ExpectBlocks(*instance, first, taken));
    ASSERT_NO_FATAL_FAILURE(ExpectBlocks(*instance, first + 1000, 1));
    ASSERT_OK(instance->Close());
  }
}

// RocksDB 7.8 keeps references to its column families when it cannot make a new
// log while it flushes them together, and ends the process when it is closed.
TEST_P(FullDiskTest, ClosesAndRecoversAfterANewLogCouldNotBeMade) {
  InstanceOptions options = Options();
  options.interval_sync_period = std::chrono::seconds(60);
  auto instance = Open(options);
  ASSERT_NE(instance, nullptr);
  // The log has something in it, and all write buffers are full: the next write
  // switches to a new log first.
  ASSERT_OK(PutTestBlock(instance->blocks(), 0, 20'000));
  ASSERT_OK(PutTestBlock(instance->blocks(), 1, 20'000));
  ASSERT_OK(instance->blocks().Erase(TestKey(0), {}));
  ASSERT_OK(PutTestBlock(instance->blocks(), 2, options.write_buffer_bytes + 100'000));
  ASSERT_OK(PutTestBlock(instance->blocks(), 3, 20'000));
  ASSERT_OK(instance->blocks().Sync());
  ASSERT_OK(PutTestBlock(instance->blocks(), 4, options.write_buffer_bytes + 100'000));
  files_.FailAfter(0);
  EXPECT_FALSE(instance->blocks().Erase(TestKey(3), {}).ok());
  EXPECT_FALSE(instance->Stats().writable.ok());
  EXPECT_FALSE(PutTestBlock(instance->blocks(), 5, 20'000).ok());
  files_.Heal();
  ASSERT_OK(instance->MaintainSpace());  // closes and opens
  ASSERT_NO_FATAL_FAILURE(ExpectBlocks(*instance, 1, 1));
  ASSERT_OK(PutTestBlock(instance->blocks(), 6, 20'000));
  ASSERT_OK(instance->Close());
}

INSTANTIATE_TEST_SUITE_P(Classes, FullDiskTest,
                         ::testing::Values(Durability::kSync, Durability::kInterval,
                                           Durability::kCache),
                         [](const auto& info) {
                           return info.param == Durability::kSync       ? "Sync"
                                  : info.param == Durability::kInterval ? "Interval"
                                                                        : "Cache";
                         });

}  // namespace
}  // namespace mnemo
