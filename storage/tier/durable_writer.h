// How a write of an instance becomes as durable as its class says.
#pragma once

#include <rocksdb/write_batch.h>

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

  // With `sync`, or in a kSync instance, on stable storage on return. A kSync
  // instance syncs every write: then all that is visible is durable, and the
  // mark may say so.
  absl::Status Write(const RocksDb::Session& session, rocksdb::WriteBatch& batch, bool sync);
  absl::Status Sync();

  RocksDb& db() const { return db_; }
  // Ends the periodic sync. No Write runs or follows.
  void Stop() { syncer_.reset(); }

 private:
  RocksDb& db_;
  const Durability durability_;
  DurableMark* const mark_;
  std::unique_ptr<LogSyncer> syncer_;  // kInterval only
};

}  // namespace mnemo
