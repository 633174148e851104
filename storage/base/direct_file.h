// A file of large runs that is written once, around the page cache.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "storage/base/file_system.h"

namespace mnemo {

// Makes or empties the file. Null where the file system knows no O_DIRECT. As
// FileSystem::OpenForWrite otherwise. Not thread-safe. Memory: up to 8 MiB, and a
// thread, while it is open.
absl::StatusOr<std::unique_ptr<WritableFile>> CreateDirectFile(const std::string& path);

}  // namespace mnemo
