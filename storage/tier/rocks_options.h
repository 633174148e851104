// How RocksDB is set up, and why: docs/decisions/0050-rocksdb-settings.md.
#pragma once

#include <rocksdb/options.h>

#include <memory>
#include <vector>

#include "storage/tier/instance.h"
#include "storage/tier/rocks_db.h"

namespace mnemo {

// `env`, `listeners` and `info_log` are left to the caller.
rocksdb::DBOptions MakeDbOptions(const InstanceOptions& options, RocksDb::Recovery recovery,
                                 const TierResources& resources);

// Default (ordered state), log, block_metadata, block_payloads: in the order of
// RocksDb::families().
std::vector<rocksdb::ColumnFamilyDescriptor> MakeFamilies(const InstanceOptions& options,
                                                          const TierResources& resources);

}  // namespace mnemo
