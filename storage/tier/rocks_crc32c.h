// RocksDB's CRC-32C by the processor's instruction.
//
// Debian builds RocksDB for the plain x86-64, without SSE4.2, and then it computes the checksum
// of every blob, log record and file by tables. The function is one that the library calls
// through its table of symbols, so that ours, which is in the program, takes its place
// (docs/decisions/0057-rocksdb-crc32c-by-processor.md).
#pragma once

#include <cstddef>
#include <cstdint>

namespace rocksdb::crc32c {

// As util/crc32c.h of RocksDB 7.8 declares it, which is not installed.
uint32_t Extend(uint32_t crc, const char* data, size_t size);

}  // namespace rocksdb::crc32c

namespace mnemo {

// Whether RocksDB calls ours: not if it was linked in another way.
bool RocksCallsOurCrc32c();

}  // namespace mnemo
