#include "server/observe/measured_file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(MeasuredFileSystemTest, TimesSyncsOfLogsAndPassesAllElseOn) {
  const TempDir directory;
  FakeClock clock;
  const std::unique_ptr<FileSystem> files = MakePosixFileSystem();
  std::vector<Nanos> syncs;
  const std::unique_ptr<FileSystem> measured =
      MakeMeasuredFileSystem(*files, clock, [&](Nanos took) { syncs.push_back(took); });

  ASSERT_OK_AND_ASSIGN(
      const std::unique_ptr<WritableFile> table,
      measured->OpenForWrite(directory / "7.sst", FileSystem::WriteMode::kTruncate));
  ASSERT_OK(table->Append(AsBytes("abc")));
  ASSERT_OK(table->Sync());
  EXPECT_THAT(syncs, IsEmpty());

  ASSERT_OK_AND_ASSIGN(
      const std::unique_ptr<WritableFile> log,
      measured->OpenForWrite(directory / "8.log", FileSystem::WriteMode::kTruncate));
  ASSERT_OK(log->Append(AsBytes("abcdef")));
  EXPECT_EQ(log->Size(), 6u);
  ASSERT_OK(log->Sync());
  ASSERT_OK(log->Sync());
  ASSERT_OK(log->Truncate(4));
  ASSERT_OK(log->Close());
  EXPECT_THAT(syncs, SizeIs(2));
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadSmallFile(*measured, directory / "8.log", 100));
  EXPECT_EQ(text, "abcd");
}

}  // namespace
}  // namespace mnemo
