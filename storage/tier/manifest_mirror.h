// A second copy of RocksDB's manifest.
//
// A database without its manifest is lost, although all its bytes are there, and
// the manifest is the one file of it that no other file can replace. It is
// small, so that it is written twice: once as RocksDB wants it, once in frames
// with checksums of our own, which say which of the two decayed.
//
// MANIFEST-N.mirror, docs/formats/data-directory.md has the bytes.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "storage/base/file_system.h"

namespace mnemo {

// Whether the last part of `path` is a manifest's name.
bool IsManifest(std::string_view path);
std::string MirrorOf(const std::string& manifest);

// A new manifest, and its mirror. Every call does to the mirror what it did to
// the manifest, after it. Errors: those of either file.
absl::StatusOr<std::unique_ptr<WritableFile>> OpenMirrored(FileSystem& files,
                                                           const std::string& manifest);

// Mends the manifest and the CURRENT file of the closed database in `folder`, if
// they decayed and the mirror says how they were. Returns what was mended, for
// people; empty: nothing. A folder without CURRENT is left alone.
// Errors: I/O.
absl::StatusOr<std::string> MendManifest(FileSystem& files, const std::string& folder);

}  // namespace mnemo
