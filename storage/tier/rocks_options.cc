#include "storage/tier/rocks_options.h"

#include <rocksdb/file_checksum.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

#include <algorithm>

#include "storage/base/units.h"
#include "storage/tier/rocks_resources.h"

namespace mnemo {
namespace {

std::shared_ptr<rocksdb::TableFactory> MakeTables(const TierResources& resources,
                                                  uint64_t block_bytes) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = resources.impl().cache;
  // Indexes and filters count against the budget instead of growing beside it.
  table.cache_index_and_filter_blocks = true;
  table.cache_index_and_filter_blocks_with_high_priority = true;
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.block_size = block_bytes;
  table.format_version = 5;
  table.checksum = rocksdb::kXXH3;
  return std::shared_ptr<rocksdb::TableFactory>(rocksdb::NewBlockBasedTableFactory(table));
}

rocksdb::ColumnFamilyOptions MakeSmallFamily(const InstanceOptions& options,
                                             const TierResources& resources,
                                             uint64_t block_bytes = 16 * kKiB) {
  rocksdb::ColumnFamilyOptions family;
  family.table_factory = MakeTables(resources, block_bytes);
  family.write_buffer_size = options.write_buffer_bytes;
  family.max_write_buffer_number = 2;
  family.memtable_protection_bytes_per_key = 8;
  family.compression = rocksdb::kNoCompression;
  family.level_compaction_dynamic_level_bytes = true;
  family.target_file_size_base = 16 * kMiB;
  family.max_bytes_for_level_base = 64 * kMiB;
  family.level0_file_num_compaction_trigger = 4;
  // Space that erased keys hold comes back without new writes to push it out.
  family.ttl = 0;
  family.periodic_compaction_seconds = 0;
  return family;
}

rocksdb::ColumnFamilyOptions MakePayloadFamily(const InstanceOptions& options,
                                               const TierResources& resources) {
  rocksdb::ColumnFamilyOptions family = MakeSmallFamily(options, resources);
  family.enable_blob_files = true;
  family.min_blob_size = options.min_blob_bytes;
  family.blob_file_size = options.blob_file_bytes;
  // RocksDB's own collection rewrites the oldest files at every compaction,
  // however little garbage is in them. MaintainSpace collects when it pays.
  family.enable_blob_garbage_collection = false;
  family.blob_compaction_readahead_size = 2 * kMiB;
  // An envelope has checksums of its own, of every section and bound to its key, which
  // whoever reads it compares: RocksDB's own of values in RAM took a third of a flush.
  family.memtable_protection_bytes_per_key = 0;
  return family;
}

}  // namespace

rocksdb::DBOptions MakeDbOptions(const InstanceOptions& options, RocksDb::Recovery recovery,
                                 const TierResources& resources) {
  const TierResources::Impl& shared = resources.impl();
  rocksdb::DBOptions db;
  db.create_if_missing = true;
  db.create_missing_column_families = true;
  db.paranoid_checks = true;
  db.file_checksum_gen_factory = rocksdb::GetFileChecksumGenCrc32cFactory();
  db.wal_recovery_mode = recovery == RocksDb::Recovery::kTolerateTail
                             ? rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords
                             : rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  // All families reach their files together, so that a log that ends early
  // never finds one of them ahead of the others.
  db.atomic_flush = true;
  db.track_and_verify_wals_in_manifest = false;
  db.wal_bytes_per_sync = 0;
  // Everything that was written is in the log already.
  db.avoid_flush_during_shutdown = true;
  db.write_buffer_manager = shared.write_buffers;
  db.rate_limiter = shared.rate_limiter;
  // RocksDB takes one job in four for flushes: below eight, one flush at once.
  db.max_background_jobs = std::min(shared.background_threads + 1, 7);
  db.max_open_files = options.max_open_files;
  db.use_direct_reads = options.direct_reads;
  // A few large values still sync as one group.
  db.max_write_batch_group_size_bytes = 8 * kMiB;
  db.max_total_wal_size = 4 * options.write_buffer_bytes;
  db.max_manifest_file_size = 64 * kMiB;
  // We resume ourselves, when there is space (RocksDb::Recover).
  db.max_bgerror_resume_count = 0;
  // An idle instance wakes nobody.
  db.stats_dump_period_sec = 0;
  db.stats_persist_period_sec = 0;
  db.skip_stats_update_on_db_open = true;
  return db;
}

std::vector<rocksdb::ColumnFamilyDescriptor> MakeFamilies(const InstanceOptions& options,
                                                          const TierResources& resources) {
  const rocksdb::ColumnFamilyOptions small = MakeSmallFamily(options, resources);
  // State: embeddings of contexts, which searches read group by group, each of
  // them a block by itself (kGroupBytes).
  const rocksdb::ColumnFamilyOptions state = MakeSmallFamily(options, resources, 8 * kKiB);
  return {{rocksdb::kDefaultColumnFamilyName, state},
          {"log", small},
          {"block_metadata", small},
          {"block_payloads", MakePayloadFamily(options, resources)}};
}

}  // namespace mnemo
