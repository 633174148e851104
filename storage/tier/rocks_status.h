// The one mapping between RocksDB's status and ours.
#pragma once

#include <rocksdb/io_status.h>
#include <rocksdb/status.h>

#include <string_view>

#include "absl/status/status.h"

namespace mnemo {

//   RocksDB                                   here
//   NotFound                                  kNotFound
//   Corruption; IOError(PathNotFound)         kDataLoss: a file of ours is damaged or gone
//   NoSpace, SpaceLimit, MemoryLimit,
//   CompactionTooLarge                        kResourceExhausted
//   any other IOError, ShutdownInProgress,
//   Busy, TryAgain, Incomplete                kUnavailable
//   InvalidArgument                           kInvalidArgument
//   NotSupported                              kUnimplemented
//   TimedOut, Expired                         kDeadlineExceeded
//   Aborted                                   kAborted
//   ColumnFamilyDropped                       kFailedPrecondition
//   MergeInProgress, anything new             kInternal
//
// `what` says what was being done, and comes first in the message.
absl::Status FromRocks(const rocksdb::Status& status, std::string_view what);

// For what the file-system seam answers RocksDB. kNotFound is PathNotFound,
// kResourceExhausted NoSpace, everything else IOError; all of them retryable,
// since only then does RocksDB let writes be resumed without a reopen.
rocksdb::IOStatus ToRocks(const absl::Status& status);

}  // namespace mnemo
