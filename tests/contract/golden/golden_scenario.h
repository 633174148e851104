// Writes the directory that a release leaves for every later build to open.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/block/block_store.h"

namespace mnemo {

// What `expected.json` is to tell of.
struct GoldenContents {
  std::set<uint64_t> tenants;
  std::vector<PartKey> parts;  // the deleted ones too
};

// A store as golden directories are written and opened with.
BlockStoreOptions GoldenOptions(const std::string& directory);

// Makes a data directory in the empty folder `directory` with all that the
// present formats can say: spaces of every durability class with groups of every
// kind; parts of many sizes in L3 and Disk, raw and lossless; salts, pins, times
// of expiry; deleted parts, salts and spaces; state in tables and state that is
// only in the write-ahead logs. The same bytes and times at every call; ids of
// nodes and spaces are random.
// Errors: kFailedPrecondition (something of that could not be brought about),
// and those of the store.
absl::StatusOr<GoldenContents> WriteGoldenDirectory(const std::string& directory, FileSystem& files,
                                                    Clock& clock);

}  // namespace mnemo
