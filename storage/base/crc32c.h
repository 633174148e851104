// CRC-32C (Castagnoli), as in RFC 3720, appendix B.4.
#pragma once

#include <cstdint>

#include "storage/base/bytes.h"

namespace mnemo {

// The CRC of bytes whose CRC is `crc` (0: none) with `bytes` behind them. By the processor's
// instruction where it has one (SSE4.2): three runs of bytes at once, put together by a table
// (V. Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction", Intel
// 2011). Thread-safe.
uint32_t ExtendCrc32c(uint32_t crc, ByteView bytes);

// The same by tables alone, which runs everywhere; about a tenth as fast.
uint32_t ExtendCrc32cByTables(uint32_t crc, ByteView bytes);

}  // namespace mnemo
