#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "storage/base/file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

class PosixFileSystemTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, std::string_view text) {
    ASSERT_OK_AND_ASSIGN(auto file, files_->OpenForWrite(path, FileSystem::WriteMode::kTruncate));
    ASSERT_OK(file->Append(AsBytes(text)));
    ASSERT_OK(file->Close());
  }
  std::string Read(const std::string& path) {
    const auto text = ReadSmallFile(*files_, path, 1 << 20);
    return text.ok() ? *text : text.status().ToString();
  }

  TempDir dir_;
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
};

TEST_F(PosixFileSystemTest, AppendsAndTruncates) {
  const std::string path = dir_ / "a";
  Write(path, "one");
  ASSERT_OK_AND_ASSIGN(auto file, files_->OpenForWrite(path, FileSystem::WriteMode::kAppend));
  EXPECT_EQ(file->Size(), 3u);
  ASSERT_OK(file->Append(AsBytes("two")));
  ASSERT_OK(file->Sync());
  EXPECT_EQ(file->Size(), 6u);
  ASSERT_OK(file->Truncate(4));
  ASSERT_OK(file->Append(AsBytes("!")));
  ASSERT_OK(file->Close());
  EXPECT_EQ(Read(path), "onet!");
  Write(path, "new");
  EXPECT_EQ(Read(path), "new");
}

TEST_F(PosixFileSystemTest, ALargeFileIsWhatWasAppended) {
  const std::string path = dir_ / "a";
  Write(path, "what was there before");
  ASSERT_OK_AND_ASSIGN(auto file, files_->OpenForWrite(path, FileSystem::WriteMode::kLarge));
  std::string expected;
  // Around the alignment and the runs of 4 MiB; synced in the middle of a block.
  const size_t sizes[] = {1,       4095,    4096,          4097,     (4 << 20) - 1,
                          4 << 20, 9 << 20, (4 << 20) + 1, 6'172'839};
  for (size_t i = 0; i < std::size(sizes); ++i) {
    std::string piece(sizes[i], static_cast<char>('a' + i));
    ASSERT_OK(file->Append(AsBytes(piece)));
    expected += piece;
    EXPECT_EQ(file->Size(), expected.size());
    if (i % 2 == 1) continue;
    ASSERT_OK(file->Sync());
    EXPECT_TRUE(*ReadSmallFile(*files_, path, 1 << 30) == expected) << i;
  }
  ASSERT_OK(file->Append(AsBytes("end")));
  ASSERT_OK(file->Close());
  EXPECT_TRUE(*ReadSmallFile(*files_, path, 1 << 30) == expected + "end");
}

TEST_F(PosixFileSystemTest, ALargeFileIsWrittenInOrder) {
  ASSERT_OK_AND_ASSIGN(auto file, files_->OpenForWrite(dir_ / "a", FileSystem::WriteMode::kLarge));
  ASSERT_OK(file->Append(AsBytes("some")));
  EXPECT_THAT(file->Truncate(1), StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK(file->Sync());
  EXPECT_EQ(Read(dir_ / "a"), "some");
}

TEST_F(PosixFileSystemTest, ReadsFewerBytesOnlyAtTheEnd) {
  Write(dir_ / "a", "0123456789");
  ASSERT_OK_AND_ASSIGN(auto file, files_->OpenForRead(dir_ / "a", {}));
  uint8_t into[8];
  ASSERT_OK_AND_ASSIGN(const size_t middle, file->Read(1, into));
  EXPECT_EQ(middle, 8u);
  EXPECT_EQ(into[0], '1');
  ASSERT_OK_AND_ASSIGN(const size_t end, file->Read(7, into));
  EXPECT_EQ(end, 3u);
  ASSERT_OK_AND_ASSIGN(const size_t beyond, file->Read(100, into));
  EXPECT_EQ(beyond, 0u);
}

TEST_F(PosixFileSystemTest, ReadsDirectlyOrFallsBack) {
  std::string text(10'000, 'x');
  text[9'999] = 'y';
  Write(dir_ / "a", text);
  ASSERT_OK_AND_ASSIGN(auto file, files_->OpenForRead(dir_ / "a", {.direct = true}));
  const size_t alignment = file->RequiredAlignment();
  uint8_t* into = static_cast<uint8_t*>(std::aligned_alloc(4096, 12'288));
  ASSERT_OK_AND_ASSIGN(const size_t count, file->Read(0, {into, 12'288}));
  EXPECT_EQ(count, 10'000u);
  EXPECT_EQ(into[9'999], 'y');
  EXPECT_TRUE(alignment == 1 || alignment == 4096) << alignment;
  std::free(into);
}

TEST_F(PosixFileSystemTest, SaysWhatIsWrongAndWhere) {
  const std::string missing = dir_ / "missing";
  EXPECT_THAT(files_->OpenForRead(missing, {}).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(missing)));
  EXPECT_THAT(files_->Remove(missing), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(files_->FileSize(missing).status(), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(files_->List(missing).status(), StatusIs(absl::StatusCode::kNotFound));
  Write(dir_ / "a", "a");
  Write(dir_ / "b", "b");
  EXPECT_THAT(files_->Link(dir_ / "a", dir_ / "b"), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(files_->CreateDirectory(dir_ / "a/b"), StatusIs(absl::StatusCode::kInternal));
}

TEST_F(PosixFileSystemTest, AFullDiskIsResourceExhausted) {
  ASSERT_OK_AND_ASSIGN(auto file,
                       files_->OpenForWrite("/dev/full", FileSystem::WriteMode::kAppend));
  EXPECT_THAT(file->Append(AsBytes("x")),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("/dev/full")));
}

// A pipe cannot be synced, whoever runs the test.
TEST_F(PosixFileSystemTest, NothingSucceedsAfterAFailedSync) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const std::string path = "/proc/self/fd/" + std::to_string(ends[1]);
  ASSERT_OK_AND_ASSIGN(auto file, files_->OpenForWrite(path, FileSystem::WriteMode::kAppend));
  ASSERT_OK(file->Append(AsBytes("x")));
  EXPECT_THAT(file->Sync(), StatusIs(absl::StatusCode::kInternal, HasSubstr("sync")));
  EXPECT_THAT(file->Append(AsBytes("x")), StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(file->Sync(), StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(file->Truncate(0), StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(file->Close(), StatusIs(absl::StatusCode::kInternal));
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(PosixFileSystemTest, ALockIsExclusiveAndNamesItsHolder) {
  const std::string path = dir_ / "LOCK";
  {
    ASSERT_OK_AND_ASSIGN(auto lock, files_->Lock(path));
    EXPECT_THAT(files_->Lock(path).status(),
                StatusIs(absl::StatusCode::kUnavailable,
                         HasSubstr("locked by pid " + std::to_string(::getpid()))));
  }
  EXPECT_OK(files_->Lock(path));
}

TEST_F(PosixFileSystemTest, ListsInOrderWithSizes) {
  Write(dir_ / "b", "12");
  Write(dir_ / "a", "1");
  ASSERT_OK(files_->CreateDirectory(dir_ / "c/d"));
  ASSERT_OK_AND_ASSIGN(const auto entries, files_->List(dir_.path()));
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].name, "a");
  EXPECT_EQ(entries[1].size, 2u);
  EXPECT_TRUE(entries[2].is_directory);
  EXPECT_FALSE(files_->RemoveDirectory(dir_ / "c").ok());
  EXPECT_OK(files_->RemoveDirectory(dir_ / "c/d"));
}

TEST_F(PosixFileSystemTest, ReplacesAFileWhole) {
  const std::string path = dir_ / "a";
  ASSERT_OK(ReplaceFile(*files_, path, AsBytes("first")));
  ASSERT_OK(ReplaceFile(*files_, path, AsBytes("second")));
  EXPECT_EQ(Read(path), "second");
  ASSERT_OK_AND_ASSIGN(const auto entries, files_->List(dir_.path()));
  EXPECT_EQ(entries.size(), 1u);
  EXPECT_THAT(ReadSmallFile(*files_, path, 5).status(),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("6 bytes (at most 5")));
}

TEST_F(PosixFileSystemTest, KnowsTheFreeSpace) {
  ASSERT_OK_AND_ASSIGN(const FileSystem::Space space, files_->FreeSpace(dir_.path()));
  EXPECT_GT(space.total_bytes, 0u);
  EXPECT_LE(space.free_bytes, space.total_bytes);
}

}  // namespace
}  // namespace mnemo
