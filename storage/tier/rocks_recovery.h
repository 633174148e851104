// Opening an instance after anything that may have happened to it.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
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
//   kCache, kInterval
//              as far as the log is whole
//   kSync      a log that ends in the middle of a record ends before it. Any
//              other damage, or an end before what the mark says was
//              acknowledged, sets the log aside (linked, before RocksDB may
//              remove it) and opens what came before
//
// Errors: as Instance::Open.
absl::StatusOr<Recovered> RecoverInstance(const InstanceOptions& options, FileSystem& files,
                                          const Clock& clock, TierResources& resources,
                                          OpenReport& report);

// Takes damaged tables out of the closed instance, says so in `report`, and
// leaves SweepPath if there were some: what lost its other half has to be looked
// for. Errors: I/O.
absl::Status DropTables(const InstanceOptions& options, FileSystem& files, const Clock& clock,
                        TierResources& resources, OpenReport& report);
std::string SweepPath(const InstanceOptions& options);

// Removes all files of the closed instance: the last resort of a cache.
absl::Status EmptyInstance(const InstanceOptions& options, FileSystem& files);

// The same error; kDataLoss says what a person can do about it.
absl::Status ExplainRepair(const InstanceOptions& options, const absl::Status& status);

}  // namespace mnemo
