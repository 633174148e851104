// Which instruction set the kernels use.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mnemo {

// From plain C++ to the widest. The names are Highway's: kAvx3 is AVX-512 with
// its F, BW, CD, DQ and VL parts, kAvx3Dl adds VNNI, VBMI and BITALG.
enum class SimdLevel { kScalar, kSsse3, kSse4, kAvx2, kAvx3, kAvx3Dl };

// "scalar", "ssse3", "sse4", "avx2", "avx3", "avx3_dl".
std::string_view SimdLevelName(SimdLevel level);

// A name from above; "auto" and "" give no value: the best that there is.
// Errors: kInvalidArgument, listing the names.
absl::StatusOr<std::optional<SimdLevel>> ParseSimdLevel(std::string_view name);

// What this build on this processor can run, from kScalar upward. Never empty.
std::vector<SimdLevel> SupportedSimdLevels();

// Highway's bit for a level; 0 for kScalar.
int64_t HighwayTarget(SimdLevel level);

}  // namespace mnemo
