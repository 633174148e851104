// A directory of its own for each test, and parts to put into it.
#pragma once

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "storage/block/directory.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace mnemo {

inline constexpr KeyScope kScope{11, 22};

inline PartKey Part(std::string_view key, PartId part = {}, KeyScope scope = kScope) {
  PartKey name{.scope = scope, .key = *BlockKey::From(key), .part = part};
  name.shard = ShardOf(scope, name.salt, key);
  return name;
}

class DirectoryTest : public ::testing::Test {
 protected:
  NewPart New(const PartKey& key, std::string_view parent = {}, uint32_t depth = 0) {
    NewPart part{
        .key = key, .payload_bytes = 1000, .depth = depth, .tokens = 16, .created = clock_.Wall()};
    if (!parent.empty()) {
      part.parent = *BlockKey::From(parent);
      part.parent_shard = ShardOf(key.scope, key.salt, parent);
    }
    return part;
  }
  MonoTime Soon() const { return clock_.Mono() + std::chrono::seconds(10); }
  static RamPlace Ram(uint64_t locator, Level level = Level::kL1) {
    return {.level = level, .locator = {locator}, .stored_bytes = 1100};
  }
  static DiskPlace Disk(Level level = Level::kL3) {
    return {.level = level, .instance = Durability::kSync, .stored_bytes = 900, .codec = 1};
  }
  // Stores a part in RAM; its state.
  EntryRef Put(const NewPart& part) {
    const auto reserved = directory_.Reserve(part, Soon());
    EXPECT_OK(reserved);
    EXPECT_EQ(reserved->outcome, Reservation::Outcome::kReserved);
    const auto ref = directory_.Publish(reserved->ref, {1, 2}, Ram(77), std::nullopt);
    EXPECT_OK(ref);
    return *ref;
  }
  EntryRef Put(std::string_view key, std::string_view parent = {}, uint32_t depth = 0) {
    return Put(New(Part(key), parent, depth));
  }
  // Removes for good; the parents that are leaves now.
  std::vector<EntryId> Drop(EntryId id) {
    const auto entry = directory_.Get(id);
    EXPECT_TRUE(entry);
    EXPECT_OK(directory_.Remove(entry->ref, Directory::RemoveWhen::kAlways));
    std::vector<EntryId> leaves;
    directory_.Recycle(id, leaves);
    return leaves;
  }

  FakeClock clock_;
  Directory directory_{{}, clock_};
};

}  // namespace mnemo
