// Tables that cannot be read, taken out of a database.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/file_system.h"
#include "storage/tier/instance.h"
#include "storage/tier/tier_resources.h"

namespace mnemo {

// Reads every table of the closed database in `<options.path>/db` and takes the
// damaged ones out of its manifest, by RocksDB's own repair command. Blob files
// are not looked at: a damaged value is met when it is read. Returns the names
// of the tables taken out, which are removed when the database is opened.
//
// What only they held is gone; what they hid may show again: the entry of a key
// before its last change or deletion. Metadata and payloads lie in different
// tables, so that such an entry finds no payload, or one with another digest.
// Errors: kDataLoss (the manifest cannot be read), I/O.
absl::StatusOr<std::vector<std::string>> DropDamagedTables(const InstanceOptions& options,
                                                           FileSystem& files, const Clock& clock,
                                                           const TierResources& resources);

}  // namespace mnemo
