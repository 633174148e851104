// What TierResources holds, for the sources that know RocksDB.
#pragma once

#include <rocksdb/cache.h>
#include <rocksdb/rate_limiter.h>
#include <rocksdb/write_buffer_manager.h>

#include <memory>

#include "storage/tier/tier_resources.h"

namespace mnemo {

// shared_ptr because RocksDB's options take no other kind of pointer.
struct TierResources::Impl {
  std::shared_ptr<rocksdb::Cache> cache;
  std::shared_ptr<rocksdb::WriteBufferManager> write_buffers;
  std::shared_ptr<rocksdb::RateLimiter> rate_limiter;  // null: no limit
  int background_threads = 1;
};

}  // namespace mnemo
