#include "storage/tier/durable_mark.h"

#include <fmt/format.h>

#include <utility>

#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr std::string_view kMagic = "MNEMOMRK";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderSize = 16;
constexpr size_t kRecordSize = 24;
constexpr uint64_t kCleanFlag = 1;
constexpr uint64_t kChecksumSeed = 0x6d6e656d6f6d726b;  // "mnemomrk"
// From here on the file is started anew.
constexpr uint64_t kMaxSize = 64 * 1024;

std::string EncodeHeader() {
  std::string out(kMagic);
  AppendLittle<uint32_t>(out, kVersion);
  const auto checksum = static_cast<uint32_t>(Checksum64(AsBytes(out), kChecksumSeed));
  AppendLittle<uint32_t>(out, checksum);
  return out;
}

std::string EncodeRecord(uint64_t sequence, uint64_t flags) {
  std::string out;
  AppendLittle<uint64_t>(out, sequence);
  AppendLittle<uint64_t>(out, flags);
  const uint64_t checksum = Checksum64(AsBytes(out), kChecksumSeed);
  AppendLittle<uint64_t>(out, checksum);
  return out;
}

}  // namespace

absl::StatusOr<DurableMark::State> DurableMark::Read(FileSystem& files, const std::string& path) {
  MNEMO_ASSIGN_OR_RETURN(const bool exists, files.Exists(path));
  if (!exists) return State{};
  State state{.present = true};
  const absl::StatusOr<std::string> contents =
      ReadSmallFile(files, path, kMaxSize + kRecordSize);
  if (absl::IsOutOfRange(contents.status())) return State{.present = true, .damaged = true};
  if (!contents.ok()) return contents.status();
  ByteReader reader(AsBytes(*contents));
  const ByteView header = reader.Take(kHeaderSize);
  if (!reader.ok()) return State{.present = true, .damaged = true};
  const auto checksum = static_cast<uint32_t>(Checksum64(header.first(12), kChecksumSeed));
  const auto version = LoadLittle<uint32_t>(&header[8]);
  state.damaged = checksum != LoadLittle<uint32_t>(&header[12]);
  if (!state.damaged && version != kVersion) {
    return absl::FailedPreconditionError(
        fmt::format("{}: version {}, this build reads {}", path, version, kVersion));
  }
  // A torn last record is how a crash looks; a bad one before it is decay, and
  // the others still count.
  while (reader.remaining() >= kRecordSize) {
    const ByteView record = reader.Take(kRecordSize);
    if (Checksum64(record.first(16), kChecksumSeed) != LoadLittle<uint64_t>(&record[16])) {
      state.damaged = true;
      state.clean = false;
      continue;
    }
    state.sequence = std::max(state.sequence, LoadLittle<uint64_t>(&record[0]));
    state.clean = LoadLittle<uint64_t>(&record[8]) == kCleanFlag;
  }
  return state;
}

DurableMark::DurableMark(FileSystem& files, std::string path, uint64_t sequence)
    : files_(files), path_(std::move(path)), sequence_(sequence) {}

absl::StatusOr<std::unique_ptr<DurableMark>> DurableMark::Start(FileSystem& files,
                                                                const std::string& path,
                                                                uint64_t sequence) {
  std::unique_ptr<DurableMark> mark(new DurableMark(files, path, sequence));
  {
    MutexLock lock(mark->mutex_);
    MNEMO_RETURN_IF_ERROR(mark->Restart());
  }
  return mark;
}

absl::Status DurableMark::Restart() {
  file_.reset();
  const std::string contents = EncodeHeader() + EncodeRecord(sequence_, 0);
  MNEMO_RETURN_IF_ERROR(ReplaceFile(files_, path_, AsBytes(contents)));
  MNEMO_ASSIGN_OR_RETURN(file_, files_.OpenForWrite(path_, FileSystem::WriteMode::kAppend));
  unsynced_ = 0;
  return absl::OkStatus();
}

absl::Status DurableMark::Append() {
  if (file_ == nullptr || file_->Size() + kRecordSize > kMaxSize) return Restart();
  MNEMO_RETURN_IF_ERROR(file_->Append(AsBytes(EncodeRecord(sequence_, 0))));
  if (++unsynced_ < kSyncInterval) return absl::OkStatus();
  unsynced_ = 0;
  return file_->Sync();
}

void DurableMark::Advance(uint64_t sequence) {
  MutexLock lock(mutex_);
  if (sequence <= sequence_) return;
  sequence_ = sequence;
  if (Append().ok()) return;
  ++failures_;
  file_.reset();
}

absl::Status DurableMark::Finish(uint64_t sequence) {
  MutexLock lock(mutex_);
  sequence_ = std::max(sequence_, sequence);
  file_.reset();
  const std::string contents = EncodeHeader() + EncodeRecord(sequence_, kCleanFlag);
  return ReplaceFile(files_, path_, AsBytes(contents));
}

uint64_t DurableMark::sequence() const {
  MutexLock lock(mutex_);
  return sequence_;
}

uint64_t DurableMark::failures() const {
  MutexLock lock(mutex_);
  return failures_;
}

}  // namespace mnemo
