#include "storage/tier/rocks_file_system.h"

#include <rocksdb/db.h>
#include <rocksdb/env.h>

#include <filesystem>
#include <set>
#include <string>

#include "storage/tier/rocks_status.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

class RocksFileSystemTest : public ::testing::Test {
 protected:
  RocksFileSystemTest() { std::filesystem::create_directories(dir_ / "graves"); }

  TempDir dir_;
  std::unique_ptr<FileSystem> posix_ = MakePosixFileSystem();
  FaultFileSystem files_{*posix_, dir_ / "graves"};
  SystemClock clock_;
};

// The seam knows every file that exists: what it does not know as durable, and
// only that, is gone after a power loss.
TEST_F(RocksFileSystemTest, TheSeamSeesEveryFileThatRocksDbMakes) {
  auto wrapped = std::make_shared<RocksFileSystem>(files_, clock_, nullptr);
  const std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(wrapped);
  rocksdb::Options options;
  options.create_if_missing = true;
  options.env = env.get();
  options.enable_blob_files = true;
  options.max_bgerror_resume_count = 0;
  // RocksDB's own log file is not part of the seam.
  class Silent : public rocksdb::Logger {
   public:
    using Logger::Logv;
    void Logv(const char*, va_list) override {}
  };
  options.info_log = std::make_shared<Silent>();
  std::filesystem::create_directories(dir_ / "data");
  rocksdb::DB* raw = nullptr;
  ASSERT_OK(FromRocks(rocksdb::DB::Open(options, dir_ / "data/db", &raw), "open"));
  std::unique_ptr<rocksdb::DB> db(raw);
  ASSERT_OK(FromRocks(db->Put({}, "a", std::string(100'000, 'x')), "put"));
  ASSERT_OK(FromRocks(db->Flush({}), "flush"));
  ASSERT_OK(FromRocks(db->Put({}, "b", "y"), "put"));
  std::set<std::string> endings;
  for (const auto& entry : std::filesystem::directory_iterator(dir_ / "data/db")) {
    const std::string name = entry.path().filename().string();
    const size_t dot = name.find_last_of(".-");
    endings.insert(dot == std::string::npos ? name : name.substr(name[dot] == '.' ? dot : 0, 8));
    EXPECT_OK(files_.FileSize(entry.path().string()));
  }
  EXPECT_TRUE(endings.contains(".sst") && endings.contains(".blob") && endings.contains(".log"));
  EXPECT_GT(wrapped->counters().wal_bytes, 100'000u);
  EXPECT_GT(wrapped->counters().blob_bytes, 100'000u);
  EXPECT_GT(wrapped->counters().table_bytes, 0u);

  // Nothing it holds open reaches the disk past the seam.
  files_.SetDead(true);
  EXPECT_FALSE(db->Put({}, "c", "z").ok());
  db.reset();
  files_.SetDead(false);
  ASSERT_OK(files_.DropUnsynced());
  ASSERT_OK(FromRocks(rocksdb::DB::Open(options, dir_ / "data/db", &raw), "open"));
  db.reset(raw);
  std::string value;
  ASSERT_OK(FromRocks(db->Get({}, "a", &value), "flushed, so synced"));
  EXPECT_EQ(value, std::string(100'000, 'x'));
  EXPECT_TRUE(db->Get({}, "b", &value).IsNotFound()) << "never synced";
}

TEST_F(RocksFileSystemTest, ReportsHowLongALogTookToSync) {
  int syncs = 0;
  RocksFileSystem wrapped(files_, clock_, [&](Nanos took) {
    EXPECT_GE(took.count(), 0);
    ++syncs;
  });
  for (const char* name : {"000001.log", "000002.sst"}) {
    std::unique_ptr<rocksdb::FSWritableFile> file;
    ASSERT_TRUE(wrapped.NewWritableFile(dir_ / name, {}, &file, nullptr).ok());
    ASSERT_TRUE(file->Append("x", {}, nullptr).ok());
    ASSERT_TRUE(file->Sync({}, nullptr).ok());
    EXPECT_TRUE(file->IsSyncThreadSafe());
  }
  EXPECT_EQ(syncs, 1);
  EXPECT_EQ(wrapped.counters().wal_syncs, 1u);
}

TEST_F(RocksFileSystemTest, SaysNotFoundTheWayRocksDbExpects) {
  RocksFileSystem wrapped(files_, clock_, nullptr);
  EXPECT_TRUE(wrapped.FileExists(dir_ / "none", {}, nullptr).IsNotFound());
  std::vector<std::string> names;
  EXPECT_TRUE(wrapped.GetChildren(dir_ / "none", {}, &names, nullptr).IsNotFound());
  std::unique_ptr<rocksdb::FSSequentialFile> file;
  EXPECT_TRUE(wrapped.NewSequentialFile(dir_ / "none", {}, &file, nullptr).IsPathNotFound());
}

TEST_F(RocksFileSystemTest, RefusesWhatWouldGoPastTheSeam) {
  RocksFileSystem wrapped(files_, clock_, nullptr);
  std::unique_ptr<rocksdb::FSRandomRWFile> random;
  EXPECT_TRUE(wrapped.NewRandomRWFile(dir_ / "a", {}, &random, nullptr).IsNotSupported());
  std::unique_ptr<rocksdb::MemoryMappedFileBuffer> mapped;
  EXPECT_TRUE(wrapped.NewMemoryMappedFileBuffer(dir_ / "a", &mapped).IsNotSupported());
  std::shared_ptr<rocksdb::Logger> logger;
  EXPECT_TRUE(wrapped.NewLogger(dir_ / "LOG", {}, &logger, nullptr).IsNotSupported());
}

}  // namespace
}  // namespace mnemo
