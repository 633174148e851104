#include "storage/tier/operation_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/tier/rocks_status.h"

namespace mnemo {
namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kKeySize = sizeof(uint16_t) + sizeof(uint64_t);
// No operation has this sequence: its entry says what was trimmed.
constexpr uint64_t kTrimSequence = 0;
// More than a shard of one table holds.
constexpr uint64_t kRestartGap = uint64_t{1} << 32;

rocksdb::Slice AsSlice(std::string_view text) { return {text.data(), text.size()}; }
std::string_view AsView(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

std::string EncodeTrim(uint64_t first_kept, uint64_t last) {
  std::string out;
  AppendLittle<uint8_t>(out, kVersion);
  AppendLittle<uint64_t>(out, first_kept);
  AppendLittle<uint64_t>(out, last);
  return out;
}

}  // namespace

std::string EncodeLogKey(uint16_t shard, uint64_t sequence) {
  std::string key;
  AppendBig<uint16_t>(key, shard);
  AppendBig<uint64_t>(key, sequence);
  return key;
}

std::string EncodeLogValue(const Operation& operation) {
  std::string out;
  out.reserve(12 + operation.key.size() + operation.payload.size());
  AppendLittle<uint8_t>(out, kVersion);
  AppendLittle<uint8_t>(out, static_cast<uint8_t>(operation.kind));
  AppendLittle<uint64_t>(out, operation.epoch);
  AppendShort(out, operation.key);
  out.append(operation.payload);
  return out;
}

absl::StatusOr<Operation> DecodeLogEntry(std::string_view key, std::string_view value) {
  if (key.size() != kKeySize) {
    return absl::DataLossError(fmt::format("operation log: a key of {} bytes", key.size()));
  }
  Operation operation;
  operation.shard = LoadBig<uint16_t>(key.data());
  operation.sequence = LoadBig<uint64_t>(key.data() + sizeof(uint16_t));
  ByteReader reader(AsBytes(value));
  const auto version = reader.Little<uint8_t>();
  const auto kind = reader.Little<uint8_t>();
  operation.epoch = reader.Little<uint64_t>();
  operation.key = std::string(AsText(reader.TakeShort()));
  if (!reader.ok() || version != kVersion || kind < 1 ||
      kind > static_cast<uint8_t>(OperationKind::kPutCalibration)) {
    return absl::DataLossError(fmt::format("operation log: entry {} of shard {} does not decode",
                                           operation.sequence, operation.shard));
  }
  operation.kind = static_cast<OperationKind>(kind);
  operation.payload = std::string(AsText(reader.Take(reader.remaining())));
  return operation;
}

absl::StatusOr<std::unique_ptr<OperationLog>> OperationLog::Open(DurableWriter& writer) {
  std::unique_ptr<OperationLog> log(new OperationLog(writer));
  MNEMO_RETURN_IF_ERROR(log->Reload());
  return log;
}

OperationLog::Pause::Pause(OperationLog& log) : log_(log) {
  MutexLock lock(log_.turns_mutex_);
  log_.paused_ = true;
  while (log_.turns_ > 0) log_.turns_ended_.Wait(log_.turns_mutex_);
}

OperationLog::Pause::~Pause() {
  MutexLock lock(log_.turns_mutex_);
  log_.paused_ = false;
}

void OperationLog::EndTurn() {
  MutexLock lock(turns_mutex_);
  if (--turns_ == 0) turns_ended_.SignalAll();
}

absl::Status OperationLog::Reload() {
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  for (uint16_t shard = 0; shard < kShardCount; ++shard) {
    shards_[shard].last = 0;
    shards_[shard].first_kept = 1;
    MNEMO_RETURN_IF_ERROR(Reload(session, shard));
  }
  return absl::OkStatus();
}

absl::Status OperationLog::Reload(const RocksDb::Session& session, uint16_t shard) {
  std::string trim;
  const rocksdb::Status found = session.db().Get(
      rocksdb::ReadOptions(), session.log(), AsSlice(EncodeLogKey(shard, kTrimSequence)), &trim);
  if (found.ok()) {
    ByteReader reader(AsBytes(trim));
    const auto version = reader.Little<uint8_t>();
    shards_[shard].first_kept = reader.Little<uint64_t>();
    shards_[shard].last = reader.Little<uint64_t>();
    if (!reader.ok() || version != kVersion) {
      return absl::DataLossError(fmt::format("operation log: trim of shard {}", shard));
    }
  } else if (!found.IsNotFound()) {
    return FromRocks(found, "operation log");
  }
  const std::unique_ptr<rocksdb::Iterator> it(
      session.db().NewIterator(rocksdb::ReadOptions(), session.log()));
  it->SeekForPrev(AsSlice(EncodeLogKey(shard, UINT64_MAX)));
  MNEMO_RETURN_IF_ERROR(FromRocks(it->status(), "operation log"));
  if (!it->Valid() || it->key().size() != kKeySize) return absl::OkStatus();
  if (LoadBig<uint16_t>(it->key().data()) != shard) return absl::OkStatus();
  const uint64_t last = LoadBig<uint64_t>(it->key().data() + sizeof(uint16_t));
  shards_[shard].last = std::max<uint64_t>(shards_[shard].last, last);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<OperationLog::Turn>> OperationLog::Take(
    std::vector<uint16_t> shards) {
  {
    MutexLock lock(turns_mutex_);
    if (paused_) return absl::UnavailableError("writes are paused while the instance recovers");
    ++turns_;
  }
  std::sort(shards.begin(), shards.end());
  shards.erase(std::unique(shards.begin(), shards.end()), shards.end());
  return std::unique_ptr<Turn>(new Turn(*this, std::move(shards)));
}

// The analysis cannot follow a set of mutexes chosen at run time.
OperationLog::Turn::Turn(OperationLog& log,
                         std::vector<uint16_t> shards) ABSL_NO_THREAD_SAFETY_ANALYSIS
    : log_(log),
      shards_(std::move(shards)) {
  given_.reserve(shards_.size());
  for (const uint16_t shard : shards_) {
    log_.shards_[shard].mutex.Lock();
    given_.push_back(log_.shards_[shard].last);
  }
}

OperationLog::Turn::~Turn() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  for (const uint16_t shard : shards_) log_.shards_[shard].mutex.Unlock();
  log_.EndTurn();
}

void OperationLog::Turn::Append(const RocksDb::Session& session, rocksdb::WriteBatch& batch,
                                const Operation& operation) {
  const auto at = std::lower_bound(shards_.begin(), shards_.end(), operation.shard);
  MNEMO_CHECK(at != shards_.end() && *at == operation.shard);
  appended_ = true;
  const uint64_t sequence = ++given_[at - shards_.begin()];
  const std::string key = EncodeLogKey(operation.shard, sequence);
  const std::string value = EncodeLogValue(operation);
  MNEMO_CHECK(batch.Put(session.log(), AsSlice(key), AsSlice(value)).ok());
}

absl::Status OperationLog::Turn::Write(const RocksDb::Session& session, rocksdb::WriteBatch& batch,
                                       RocksDb::Logging logging) {
  MNEMO_CHECK(logging != RocksDb::Logging::kNone || !appended_);
  MNEMO_RETURN_IF_ERROR(log_.writer_.Write(session, batch, logging));
  for (size_t i = 0; i < shards_.size(); ++i) log_.shards_[shards_[i]].last = given_[i];
  return absl::OkStatus();
}

absl::Status OperationLog::Read(uint16_t shard, uint64_t first_sequence,
                                const std::function<bool(const Operation&)>& visit) const {
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  const std::string end = EncodeLogKey(shard + 1, 0);
  const rocksdb::Slice upper = AsSlice(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &upper;
  // The view first, the bound after: a trim between the two is then refused
  // instead of looking like a gap.
  const std::unique_ptr<rocksdb::Iterator> it(session.db().NewIterator(options, session.log()));
  const uint64_t first_kept = shards_[shard].first_kept;
  // Sequences start at 1: asking from 0 asks for all.
  first_sequence = std::max<uint64_t>(first_sequence, 1);
  if (first_sequence < first_kept) {
    return absl::OutOfRangeError(fmt::format("sequence {} of shard {} is trimmed (from {} kept)",
                                             first_sequence, shard, first_kept));
  }
  for (it->Seek(AsSlice(EncodeLogKey(shard, first_sequence))); it->Valid(); it->Next()) {
    MNEMO_ASSIGN_OR_RETURN(const Operation operation,
                           DecodeLogEntry(AsView(it->key()), AsView(it->value())));
    if (!visit(operation)) return absl::OkStatus();
  }
  return FromRocks(it->status(), "operation log");
}

absl::Status OperationLog::Trim(uint16_t shard, uint64_t first_kept) {
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<Turn> turn, Take({shard}));
  Shard& state = shards_[shard];
  if (first_kept <= state.first_kept) return absl::OkStatus();
  if (first_kept > state.last + 1) {
    return absl::OutOfRangeError(
        fmt::format("first_kept {} of shard {} (at most {})", first_kept, shard, state.last + 1));
  }
  rocksdb::WriteBatch batch;
  const std::string from = EncodeLogKey(shard, state.first_kept);
  const std::string to = EncodeLogKey(shard, first_kept);
  const std::string mark = EncodeLogKey(shard, kTrimSequence);
  const std::string value = EncodeTrim(first_kept, state.last);
  MNEMO_CHECK(batch.DeleteRange(session.log(), AsSlice(from), AsSlice(to)).ok());
  MNEMO_CHECK(batch.Put(session.log(), AsSlice(mark), AsSlice(value)).ok());
  // Before the write: a reader must not take what the write removes for a gap.
  const uint64_t before = state.first_kept;
  state.first_kept = first_kept;
  const absl::Status written = turn->Write(session, batch, RocksDb::Logging::kWrite);
  if (!written.ok()) state.first_kept = before;
  return written;
}

absl::Status OperationLog::Restart() {
  MNEMO_ASSIGN_OR_RETURN(const RocksDb::Session session, writer_.db().Acquire());
  for (uint16_t shard = 0; shard < kShardCount; ++shard) {
    MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<Turn> turn, Take({shard}));
    const uint64_t last = shards_[shard].last + kRestartGap;
    rocksdb::WriteBatch batch;
    const std::string from = EncodeLogKey(shard, kTrimSequence);
    const std::string to = EncodeLogKey(shard + 1, kTrimSequence);
    const std::string value = EncodeTrim(last + 1, last);
    MNEMO_CHECK(batch.DeleteRange(session.log(), AsSlice(from), AsSlice(to)).ok());
    MNEMO_CHECK(batch.Put(session.log(), AsSlice(from), AsSlice(value)).ok());
    MNEMO_RETURN_IF_ERROR(turn->Write(session, batch, RocksDb::Logging::kWrite));
    shards_[shard].last = last;
    shards_[shard].first_kept = last + 1;
  }
  return absl::OkStatus();
}

absl::Status OperationLog::TrimAll(uint64_t retained) {
  for (uint16_t shard = 0; shard < kShardCount; ++shard) {
    const uint64_t last = shards_[shard].last;
    const uint64_t first_kept = shards_[shard].first_kept;
    if (last + 1 - first_kept <= 2 * retained) continue;
    MNEMO_RETURN_IF_ERROR(Trim(shard, last + 1 - retained));
  }
  return absl::OkStatus();
}

}  // namespace mnemo
