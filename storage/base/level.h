// Words that every room above shares: how durable, and where.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mnemo {

// On disk: never renumber.
enum class Durability : uint8_t { kCache = 1, kInterval = 2, kSync = 3 };

// Physical places, nearest first.
enum class Level : uint8_t { kL1 = 0, kL2 = 1, kL3 = 2, kDisk = 3 };
inline constexpr size_t kLevelCount = 4;
inline constexpr size_t Index(Level level) { return static_cast<size_t>(level); }
inline constexpr bool IsRam(Level level) { return level == Level::kL1 || level == Level::kL2; }

// A part's place in the directory, for its lifetime: shard (8 bits) | slot (24).
using EntryId = uint32_t;
inline constexpr EntryId kNoEntry = 0xffffffff;

}  // namespace mnemo
