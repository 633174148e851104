// A file system that times the syncs of write-ahead logs.
#pragma once

#include <functional>
#include <memory>

#include "storage/base/clock.h"
#include "storage/base/file_system.h"

namespace mnemo {

// Passes everything on to `files`, which it borrows, and calls `on_log_sync`
// with the time that each successful sync of a RocksDB log (*.log) took.
// Thread-safe as `files` is; `on_log_sync` must be.
std::unique_ptr<FileSystem> MakeMeasuredFileSystem(FileSystem& files, Clock& clock,
                                                   std::function<void(Nanos)> on_log_sync);

}  // namespace mnemo
