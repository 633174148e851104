#include "storage/tier/data_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr std::string_view kMagic = "MNEMODIR";
constexpr size_t kIdentitySize = 40;
constexpr uint64_t kMaxIdentityFile = 4096;
constexpr uint64_t kChecksumSeed = 0x6d6e656d6f646972;  // "mnemodir"
constexpr std::string_view kIdentityName = "IDENTITY";
// A second copy: it is small, and without it the whole folder is refused.
constexpr std::string_view kMirrorName = "IDENTITY.mirror";
constexpr std::string_view kLockName = "LOCK";
// What a folder without an identity may hold: our lock, what an interrupted
// first start left, and what a fresh ext4 volume brings.
constexpr std::array<std::string_view, 5> kIgnoredNames = {
    "LOCK", "IDENTITY.tmp", "IDENTITY.mirror", "IDENTITY.mirror.tmp", "lost+found"};

bool ChecksumFits(ByteView bytes) {
  return bytes.size() == kIdentitySize &&
         LoadLittle<uint64_t>(&bytes[kIdentitySize - sizeof(uint64_t)]) ==
             Checksum64(bytes.first(kIdentitySize - sizeof(uint64_t)), kChecksumSeed);
}

absl::StatusOr<NodeIdentity> ReadIdentity(const std::string& folder, std::string_view name,
                                          FileSystem& files, bool& damaged) {
  const std::string path = fmt::format("{}/{}", folder, name);
  const absl::StatusOr<uint64_t> size = files.FileSize(path);
  if (size.ok() && *size > kMaxIdentityFile) {
    return absl::DataLossError(fmt::format("{}: {} bytes", path, *size));
  }
  MNEMO_ASSIGN_OR_RETURN(const std::string contents, ReadSmallFile(files, path, kMaxIdentityFile));
  const absl::StatusOr<NodeIdentity> decoded = DecodeIdentity(AsBytes(contents));
  damaged = !ChecksumFits(AsBytes(contents));
  if (decoded.ok()) return decoded;
  return absl::Status(decoded.status().code(),
                      fmt::format("{}: {}", folder, std::string(decoded.status().message())));
}

// The identity, from its mirror if it decayed; both are whole afterwards.
absl::StatusOr<NodeIdentity> OpenIdentity(const std::string& folder, FileSystem& files) {
  bool own_damaged = true;
  bool mirror_damaged = true;
  const absl::StatusOr<NodeIdentity> own = ReadIdentity(folder, kIdentityName, files, own_damaged);
  const absl::StatusOr<NodeIdentity> mirror =
      ReadIdentity(folder, kMirrorName, files, mirror_damaged);
  if (own.ok() && mirror.ok() && *own == *mirror) return own;
  // Another version, and whole.
  if (!own.ok() && (!mirror.ok() || !own_damaged)) return own.status();
  const std::string_view damaged = own.ok() ? kMirrorName : kIdentityName;
  const NodeIdentity& whole = own.ok() ? *own : *mirror;
  MNEMO_RETURN_IF_ERROR(
      ReplaceFile(files, fmt::format("{}/{}", folder, damaged), AsBytes(EncodeIdentity(whole))));
  return whole;
}

absl::StatusOr<NodeIdentity> Create(const std::string& path, FileSystem& files, const Clock& clock,
                                    uint64_t node_id) {
  if (node_id == 0) return absl::InvalidArgumentError("node_id is 0 (random, not 0)");
  MNEMO_ASSIGN_OR_RETURN(const std::vector<FileSystem::Entry> entries, files.List(path));
  for (const FileSystem::Entry& entry : entries) {
    if (std::find(kIgnoredNames.begin(), kIgnoredNames.end(), entry.name) != kIgnoredNames.end()) {
      continue;
    }
    return absl::FailedPreconditionError(
        fmt::format("{}: neither empty nor a data directory: it has {} but no {}", path, entry.name,
                    kIdentityName));
  }
  const NodeIdentity identity{.node_id = node_id, .created = clock.Wall()};
  // The mirror first: a folder that has an identity has both.
  for (const std::string_view name : {kMirrorName, kIdentityName}) {
    MNEMO_RETURN_IF_ERROR(
        ReplaceFile(files, fmt::format("{}/{}", path, name), AsBytes(EncodeIdentity(identity))));
  }
  return identity;
}

}  // namespace

std::string EncodeIdentity(const NodeIdentity& identity) {
  std::string out(kMagic);
  AppendLittle<uint32_t>(out, identity.format);
  AppendLittle<uint32_t>(out, 0);
  AppendLittle<uint64_t>(out, identity.node_id);
  AppendLittle<int64_t>(out, identity.created.nanos);
  const uint64_t checksum = Checksum64(AsBytes(out), kChecksumSeed);
  AppendLittle<uint64_t>(out, checksum);
  return out;
}

absl::StatusOr<NodeIdentity> DecodeIdentity(ByteView bytes) {
  ByteReader reader(bytes);
  const std::string_view magic = AsText(reader.Take(kMagic.size()));
  NodeIdentity identity;
  identity.format = reader.Little<uint32_t>();
  if (!reader.ok() || magic != kMagic) {
    return absl::DataLossError("identity: not an identity file, or damaged");
  }
  // Before anything else: another version may look different from here on, and
  // an operator is helped more by the version than by a checksum. A flipped bit
  // in the version itself is refused all the same.
  if (identity.format != kDataDirectoryFormat) {
    return absl::FailedPreconditionError(fmt::format(
        "identity: format version {}, this build knows {}", identity.format, kDataDirectoryFormat));
  }
  reader.Little<uint32_t>();
  identity.node_id = reader.Little<uint64_t>();
  identity.created.nanos = reader.Little<int64_t>();
  reader.Little<uint64_t>();  // the checksum
  if (!reader.ok() || reader.remaining() != 0 || !ChecksumFits(bytes) || identity.node_id == 0) {
    return absl::DataLossError("identity: damaged");
  }
  return identity;
}

DataDirectory::DataDirectory(std::string path, std::unique_ptr<FileLock> lock,
                             NodeIdentity identity, bool created)
    : path_(std::move(path)), lock_(std::move(lock)), identity_(identity), created_(created) {}

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::Open(const std::string& path,
                                                                   FileSystem& files,
                                                                   const Clock& clock,
                                                                   uint64_t node_id) {
  MNEMO_RETURN_IF_ERROR(CreateDirectoryDurably(files, path));
  MNEMO_ASSIGN_OR_RETURN(std::unique_ptr<FileLock> lock,
                         files.Lock(fmt::format("{}/{}", path, kLockName)));
  const std::string identity_path = fmt::format("{}/{}", path, kIdentityName);
  MNEMO_ASSIGN_OR_RETURN(const bool used, files.Exists(identity_path));
  NodeIdentity identity;
  if (used) {
    MNEMO_ASSIGN_OR_RETURN(identity, OpenIdentity(path, files));
  } else {
    MNEMO_ASSIGN_OR_RETURN(identity, Create(path, files, clock, node_id));
  }
  return std::unique_ptr<DataDirectory>(new DataDirectory(path, std::move(lock), identity, !used));
}

std::string DataDirectory::InstancePath(Level level, Durability durability) const {
  MNEMO_CHECK(level == Level::kL3 || level == Level::kDisk);
  constexpr std::array<std::string_view, 4> kClasses = {"", "cache", "interval", "sync"};
  return fmt::format("{}/{}/{}", path_, level == Level::kL3 ? "l3" : "archive",
                     kClasses[static_cast<size_t>(durability)]);
}

}  // namespace mnemo
