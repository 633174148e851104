// memcpy with memory whose pages somebody else may take away.
#pragma once

#include <cstddef>

namespace mnemo {

// Copies `bytes` from `from` to `to`, which do not overlap. False if a page of
// either could not be had (SIGBUS): then some of it may have been copied. Any
// number of threads may copy at once.
//
// The first call takes over SIGBUS for the whole process; a SIGBUS from anywhere
// else goes where it went before (docs/decisions/0126).
[[nodiscard]] bool GuardedCopy(void* to, const void* from, size_t bytes);

}  // namespace mnemo
