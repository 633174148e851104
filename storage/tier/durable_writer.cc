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
                                  bool sync) {
  MNEMO_RETURN_IF_ERROR(db_.Write(session, batch, sync || durability_ == Durability::kSync));
  if (mark_ != nullptr) mark_->Advance(session.db().GetLatestSequenceNumber());
  if (syncer_ != nullptr && !sync) syncer_->NoteWrite();
  return absl::OkStatus();
}

absl::Status DurableWriter::Sync() { return db_.SyncLog(); }

}  // namespace mnemo
