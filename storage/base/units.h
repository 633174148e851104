// Sizes and times as people write them: "8GiB", "500ms".
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mnemo {

inline constexpr uint64_t kKiB = uint64_t{1} << 10;
inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;

// A whole or decimal number and one of B, KiB, MiB, GiB, TiB, KB, MB, GB, TB;
// no unit means bytes. Errors: kInvalidArgument, naming the text.
absl::StatusOr<uint64_t> ParseByteSize(std::string_view text);

// A whole or decimal number and one of us, ms, s, m, h, d. "0" needs no unit.
// Errors: kInvalidArgument, naming the text.
absl::StatusOr<std::chrono::nanoseconds> ParseDuration(std::string_view text);

// "1.5 GiB", "640 B": at most three significant digits after the point.
std::string FormatByteSize(uint64_t bytes);
// "1.2 ms", "3 s".
std::string FormatDuration(std::chrono::nanoseconds duration);

}  // namespace mnemo
