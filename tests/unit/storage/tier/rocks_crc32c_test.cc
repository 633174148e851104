#include "storage/tier/rocks_crc32c.h"

#include <gtest/gtest.h>
#include <rocksdb/file_checksum.h>

#include <string>

#include "storage/base/bytes.h"
#include "storage/base/crc32c.h"

namespace mnemo {
namespace {

TEST(RocksCrc32cTest, TheLibraryCallsOurs) { EXPECT_TRUE(RocksCallsOurCrc32c()); }

// Through a public class of RocksDB, whose result is the checksum's bytes, highest first.
TEST(RocksCrc32cTest, TheLibraryComputesTheSame) {
  const std::string bytes(1'000'000, 'm');
  const auto generator =
      rocksdb::GetFileChecksumGenCrc32cFactory()->CreateFileChecksumGenerator({});
  generator->Update(bytes.data(), bytes.size());
  generator->Finalize();
  const uint32_t expected = ExtendCrc32cByTables(0, AsBytes(bytes));
  const std::string stored = generator->GetChecksum();
  ASSERT_EQ(stored.size(), 4u);
  EXPECT_EQ(LoadBig<uint32_t>(stored.data()), expected);
}

}  // namespace
}  // namespace mnemo
