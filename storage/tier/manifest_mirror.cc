#include "storage/tier/manifest_mirror.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr std::string_view kMagic = "MNEMOMIR";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderSize = 16;
constexpr size_t kFrameHeaderSize = 8;
constexpr uint64_t kChecksumSeed = 0x6d6e656d6f6d6972;  // "mnemomir"
constexpr uint64_t kMaxManifest = 256ull << 20;         // four times where a new one begins
constexpr std::string_view kPrefix = "MANIFEST-";
constexpr std::string_view kSuffix = ".mirror";

uint32_t Checksum32(ByteView bytes) {
  return static_cast<uint32_t>(Checksum64(bytes, kChecksumSeed));
}

std::string EncodeHeader() {
  std::string out(kMagic);
  AppendLittle<uint32_t>(out, kVersion);
  AppendLittle<uint32_t>(out, Checksum32(AsBytes(out)));
  return out;
}

std::string EncodeFrame(ByteView bytes) {
  std::string covered;
  covered.reserve(sizeof(uint32_t) + bytes.size());
  AppendLittle<uint32_t>(covered, static_cast<uint32_t>(bytes.size()));
  covered.append(AsText(bytes));
  std::string out = covered.substr(0, sizeof(uint32_t));
  AppendLittle<uint32_t>(out, Checksum32(AsBytes(covered)));
  out.append(AsText(bytes));
  return out;
}

// The bytes of the frames up to the first that is not whole.
std::string DecodeFrames(std::string_view mirror) {
  std::string contents;
  if (!mirror.starts_with(EncodeHeader())) return contents;
  ByteReader reader(AsBytes(mirror.substr(kHeaderSize)));
  while (reader.remaining() >= kFrameHeaderSize) {
    const auto size = reader.Little<uint32_t>();
    const auto checksum = reader.Little<uint32_t>();
    const ByteView bytes = reader.Take(size);
    if (!reader.ok()) break;
    std::string covered;
    AppendLittle<uint32_t>(covered, size);
    covered.append(AsText(bytes));
    if (Checksum32(AsBytes(covered)) != checksum) break;
    contents.append(AsText(bytes));
  }
  return contents;
}

class MirroredFile final : public WritableFile {
 public:
  MirroredFile(std::unique_ptr<WritableFile> file, std::unique_ptr<WritableFile> mirror)
      : file_(std::move(file)), mirror_(std::move(mirror)) {}

  absl::Status Append(ByteView bytes) override {
    if (bytes.empty()) return absl::OkStatus();
    MNEMO_RETURN_IF_ERROR(file_->Append(bytes));
    return mirror_->Append(AsBytes(EncodeFrame(bytes)));
  }
  absl::Status Sync() override {
    MNEMO_RETURN_IF_ERROR(file_->Sync());
    return mirror_->Sync();
  }
  absl::Status Truncate(uint64_t size) override {
    if (size == file_->Size()) return absl::OkStatus();
    return absl::UnimplementedError("a manifest is not cut");
  }
  absl::Status Close() override {
    const absl::Status closed = file_->Close();
    const absl::Status mirror_closed = mirror_->Close();
    return closed.ok() ? mirror_closed : closed;
  }
  uint64_t Size() const override { return file_->Size(); }

 private:
  const std::unique_ptr<WritableFile> file_;
  const std::unique_ptr<WritableFile> mirror_;
};

// What CURRENT says: the name of a manifest and a line end.
bool NamesAManifest(std::string_view current, const std::vector<std::string>& manifests) {
  if (!current.ends_with('\n')) return false;
  current.remove_suffix(1);
  return std::find(manifests.begin(), manifests.end(), current) != manifests.end();
}

// How the manifest was, if that is not how it is.
std::string Mended(const std::string& manifest, const std::string& mirror) {
  const size_t common = std::min(manifest.size(), mirror.size());
  const bool agree =
      std::string_view(manifest).substr(0, common) == std::string_view(mirror).substr(0, common);
  // A process that died between the two writes left the mirror shorter.
  if (agree && mirror.size() <= manifest.size()) return manifest;
  // What is longer was written to the manifest first, so that it has been cut.
  return mirror + manifest.substr(common);
}

}  // namespace

bool IsManifest(std::string_view path) {
  const size_t slash = path.rfind('/');
  std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  if (!name.starts_with(kPrefix) || name.size() == kPrefix.size()) return false;
  name.remove_prefix(kPrefix.size());
  return std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string MirrorOf(const std::string& manifest) { return manifest + std::string(kSuffix); }

absl::StatusOr<std::unique_ptr<WritableFile>> OpenMirrored(FileSystem& files,
                                                           const std::string& manifest) {
  MNEMO_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file,
                         files.OpenForWrite(manifest, FileSystem::WriteMode::kTruncate));
  MNEMO_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> mirror,
                         files.OpenForWrite(MirrorOf(manifest), FileSystem::WriteMode::kTruncate));
  MNEMO_RETURN_IF_ERROR(mirror->Append(AsBytes(EncodeHeader())));
  return std::make_unique<MirroredFile>(std::move(file), std::move(mirror));
}

absl::StatusOr<std::string> MendManifest(FileSystem& files, const std::string& folder) {
  MNEMO_ASSIGN_OR_RETURN(const std::vector<FileSystem::Entry> entries, files.List(folder));
  std::vector<std::string> manifests;
  for (const FileSystem::Entry& entry : entries) {
    if (IsManifest(entry.name)) manifests.push_back(entry.name);
  }
  const std::string current_path = folder + "/CURRENT";
  MNEMO_ASSIGN_OR_RETURN(const bool has_current, files.Exists(current_path));
  if (!has_current || manifests.empty()) return std::string();
  std::string said;
  MNEMO_ASSIGN_OR_RETURN(std::string current, ReadSmallFile(files, current_path, kMaxManifest));
  if (!NamesAManifest(current, manifests)) {
    // A new manifest is whole before CURRENT names it, so that the newest will do.
    const auto newest =
        std::max_element(manifests.begin(), manifests.end(), [](const auto& a, const auto& b) {
          return std::pair(a.size(), a) < std::pair(b.size(), b);
        });
    current = *newest + "\n";
    MNEMO_RETURN_IF_ERROR(ReplaceFile(files, current_path, AsBytes(current)));
    said = "CURRENT was damaged, and mended";
  }
  const std::string path = folder + "/" + current.substr(0, current.size() - 1);
  MNEMO_ASSIGN_OR_RETURN(const bool has_mirror, files.Exists(MirrorOf(path)));
  if (!has_mirror) return said;
  MNEMO_ASSIGN_OR_RETURN(const std::string mirror,
                         ReadSmallFile(files, MirrorOf(path), 2 * kMaxManifest));
  MNEMO_ASSIGN_OR_RETURN(const std::string manifest, ReadSmallFile(files, path, kMaxManifest));
  const std::string mended = Mended(manifest, DecodeFrames(mirror));
  if (mended == manifest) return said;
  MNEMO_RETURN_IF_ERROR(ReplaceFile(files, path, AsBytes(mended)));
  return fmt::format("{}{}the manifest was damaged, and mended from its mirror", said,
                     said.empty() ? "" : "; ");
}

}  // namespace mnemo
