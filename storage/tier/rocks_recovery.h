// Opening an instance after anything that may have happened to it.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "storage/tier/durable_mark.h"
#include "storage/tier/instance.h"
#include "storage/tier/rocks_db.h"

namespace mnemo {

struct Recovered {
  std::unique_ptr<RocksDb> db;
  std::unique_ptr<DurableMark> mark;  // present in every class; only kSync advances it
};

// Opens or makes `options.path`, and says in `report` what was found; blocks
// and damaged_metadata are the caller's.
//
//   kCache     as far as the log is whole; files that cannot be opened at all
//              are removed and the instance starts empty
//   kInterval  as far as the log is whole
//   kSync      a log that ends in the middle of a record ends before it. Any
//              other damage, or an end before what the mark says was
//              acknowledged, sets the log aside (linked, before RocksDB may
//              remove it) and opens what came before
//
// Errors: as Instance::Open.
absl::StatusOr<Recovered> RecoverInstance(const InstanceOptions& options, FileSystem& files,
                                          const Clock& clock, TierResources& resources,
                                          OpenReport& report);

}  // namespace mnemo
