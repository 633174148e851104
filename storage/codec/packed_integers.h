// Integers in the bits that their range or their differences take, and runs of the same
// one as a count: masks, ids, page tables. Bytes in docs/formats/envelope.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "storage/base/bytes.h"

namespace mnemo::codec {

// Packs `exact`, values of `element_bytes` (1, 2 or 4; bytes behind the last whole one stay
// as they are), into the front of `into`. Returns the bytes that this takes; 0 if it takes more
// than `into` has. Pure, thread-safe; O(exact.size()).
size_t PackIntegers(ByteView exact, uint32_t element_bytes, MutableByteView into);

// The inverse. `packed` may be damaged: nothing outside either is touched. Errors:
// kDataLoss.
absl::Status UnpackIntegers(ByteView packed, uint32_t element_bytes, MutableByteView exact);

}  // namespace mnemo::codec
