// Sizes that nobody gave, derived from the machine.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace mnemo {

// Fills the sizes of `config` that are kAutoSize.
//
// memory.total: half of facts.memory_bytes. Its split, of what is left after
// the sizes given: L1 42, L2 14, disk cache 12, contexts 10, in flight
// 8, directory 6, connections 4 of 100 parts; 4 stay free for stacks and the program itself.
// Parts of a size given are left out of the sum. Each is rounded down to 1 MiB and is at
// least its setting's minimum.
//
// disk.total: 80 % of what is free or already ours. Its split: L3 60, archive
// 40 of 100 parts.
//
// Errors: kInvalidArgument, naming the keys whose sum exceeds the total, or the
// total that is too small for the minimums.
absl::Status DeriveSizes(const HostFacts& facts, Config& config);

// Reads /proc/meminfo, the limits of every cgroup (v1 or v2) above this
// process, and the data directory's file system; that of the nearest folder
// that exists, if it has not been made yet. `root` stands for "/" in tests.
// Errors: kUnavailable.
absl::StatusOr<HostFacts> ProbeHost(const std::string& data_dir, const std::string& root = "");

}  // namespace mnemo
