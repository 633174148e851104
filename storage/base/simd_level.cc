#include "storage/base/simd_level.h"

#include <array>
#include <string>

#include "absl/strings/str_cat.h"
#include "hwy/highway.h"

namespace mnemo {
namespace {

struct Named {
  SimdLevel level;
  std::string_view name;
  int64_t target;  // Highway's bit, 0 for plain C++
};

constexpr std::array kLevels = {
    Named{SimdLevel::kScalar, "scalar", 0},    Named{SimdLevel::kSsse3, "ssse3", HWY_SSSE3},
    Named{SimdLevel::kSse4, "sse4", HWY_SSE4}, Named{SimdLevel::kAvx2, "avx2", HWY_AVX2},
    Named{SimdLevel::kAvx3, "avx3", HWY_AVX3}, Named{SimdLevel::kAvx3Dl, "avx3_dl", HWY_AVX3_DL},
};

}  // namespace

std::string_view SimdLevelName(SimdLevel level) { return kLevels[static_cast<size_t>(level)].name; }

absl::StatusOr<std::optional<SimdLevel>> ParseSimdLevel(std::string_view name) {
  if (name.empty() || name == "auto") return std::optional<SimdLevel>();
  std::string known = "auto";
  for (const Named& named : kLevels) {
    if (named.name == name) return std::optional<SimdLevel>(named.level);
    known += ", " + std::string(named.name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("simd level \"", std::string(name), "\", expected one of ", known));
}

std::vector<SimdLevel> SupportedSimdLevels() {
  const int64_t supported = hwy::SupportedTargets() & HWY_TARGETS;
  std::vector<SimdLevel> levels;
  for (const Named& named : kLevels) {
    if (named.target == 0 || (supported & named.target) != 0) levels.push_back(named.level);
  }
  return levels;
}

int64_t HighwayTarget(SimdLevel level) { return kLevels[static_cast<size_t>(level)].target; }

}  // namespace mnemo
