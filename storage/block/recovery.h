// The directory, rebuilt at start from what the instances know of their blocks.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "storage/block/block_store.h"
#include "storage/block/disk_levels.h"
#include "storage/block/store_core.h"

namespace mnemo {

// Reads metadata alone: no payload is touched. Of two copies of a part that a
// crash left, one stays: the newer, then the more durable, then the nearer.
// `expiring` tells whether some part has a time to live.
// Errors: kResourceExhausted (memory), kUnavailable.
absl::StatusOr<BlockStore::Recovery> RecoverParts(
    StoreCore& core, const std::vector<DiskLevels::OpenedInstance>& opened, bool& expiring);

}  // namespace mnemo
