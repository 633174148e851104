// How a write of an instance becomes as durable as its class says.
#pragma once

#include <rocksdb/write_batch.h>

#include <atomic>
#include <memory>

#include "storage/tier/durable_mark.h"
#include "storage/tier/log_syncer.h"
#include "storage/tier/rocks_db.h"

namespace mnemo {

// Thread-safe, but for the destructor.
class DurableWriter {
 public:
  // Borrows both. `mark` is null but in a kSync instance.
  DurableWriter(RocksDb& db, const InstanceOptions& options, DurableMark* mark);

  // A kSync instance syncs every write, whatever `logging` says: then all that
  // is visible is durable, and the mark may say so.
  absl::Status Write(const RocksDb::Session& session, rocksdb::WriteBatch& batch,
                     RocksDb::Logging logging);
  // Puts everything written so far on stable storage.
  absl::Status Sync();

  RocksDb& db() const { return db_; }
  // Ends the periodic sync. No Write runs or follows.
  void Stop() { syncer_.reset(); }

 private:
  RocksDb& db_;
  const Durability durability_;
  std::atomic<bool> unlogged_{false};  // there may be writes that only a flush saves
  DurableMark* const mark_;
  std::unique_ptr<LogSyncer> syncer_;  // kInterval only
};

}  // namespace mnemo
