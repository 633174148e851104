// The folder that a node keeps its memory in.
//
//   IDENTITY        format version, node id, time of creation; checksummed
//   IDENTITY.mirror the same again; either is mended from the other
//   LOCK            held while a process has the folder open; names its pid
//   l3/cache  l3/interval  l3/sync  archive/cache ...     an Instance each
//
// docs/formats/data-directory.md has the bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/file_system.h"
#include "storage/tier/block_level.h"

namespace mnemo {

inline constexpr uint32_t kDataDirectoryFormat = 1;

struct NodeIdentity {
  uint32_t format = kDataDirectoryFormat;
  uint64_t node_id = 0;  // random, never 0, never reused
  WallTime created;
  friend bool operator==(const NodeIdentity&, const NodeIdentity&) = default;
};

// Holds the lock until destroyed. Immutable, so thread-safe.
class DataDirectory {
 public:
  // Opens `path`, and makes it, durably, if it is absent or empty. `node_id`
  // is used only then: random, not 0.
  // Errors: kUnavailable ("locked by pid N"), kFailedPrecondition (made by
  // another format version, both named; or a folder with files that are not
  // ours), kDataLoss (IDENTITY is damaged), kInvalidArgument (node_id 0),
  // kPermissionDenied, kResourceExhausted.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(const std::string& path,
                                                             FileSystem& files, const Clock& clock,
                                                             uint64_t node_id);

  const std::string& path() const { return path_; }
  const NodeIdentity& identity() const { return identity_; }
  bool created() const { return created_; }  // by this Open

  // Where the instance of (level, durability) lies. `level` is kL3 or kDisk.
  std::string InstancePath(Level level, Durability durability) const;

 private:
  DataDirectory(std::string path, std::unique_ptr<FileLock> lock, NodeIdentity identity,
                bool created);

  const std::string path_;
  const std::unique_ptr<FileLock> lock_;
  const NodeIdentity identity_;
  const bool created_;
};

// The bytes of IDENTITY. Errors of Decode: kDataLoss, kFailedPrecondition.
std::string EncodeIdentity(const NodeIdentity& identity);
absl::StatusOr<NodeIdentity> DecodeIdentity(ByteView bytes);

}  // namespace mnemo
