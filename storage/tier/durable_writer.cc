#include "storage/tier/durable_writer.h"

#include "storage/base/status_macros.h"

namespace mnemo {

DurableWriter::DurableWriter(RocksDb& db, const InstanceOptions& options, DurableMark* mark)
    : db_(db), durability_(options.durability), mark_(mark) {
  if (durability_ == Durability::kInterval) {
    syncer_ = std::make_unique<LogSyncer>(options.interval_sync_period,
                                          [this] { return db_.SyncLog(); });
  }
}

absl::Status DurableWriter::Write(const RocksDb::Session& session, rocksdb::WriteBatch& batch,
                                  RocksDb::Logging logging) {
  if (durability_ == Durability::kSync) logging = RocksDb::Logging::kSynced;
  MNEMO_RETURN_IF_ERROR(db_.Write(session, batch, logging));
  if (logging == RocksDb::Logging::kNone) unlogged_ = true;
  if (mark_ != nullptr) mark_->Advance(session.db().GetLatestSequenceNumber());
  if (syncer_ != nullptr && logging == RocksDb::Logging::kWrite) syncer_->NoteWrite();
  return absl::OkStatus();
}

absl::Status DurableWriter::Sync() {
  if (!unlogged_.exchange(false)) return db_.SyncLog();
  const absl::Status flushed = db_.Flush();
  if (!flushed.ok()) unlogged_ = true;
  return flushed;
}

}  // namespace mnemo
