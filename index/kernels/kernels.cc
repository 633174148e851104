#include "index/kernels/kernels.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "hwy/highway.h"
#include "index/kernels/tables.h"

namespace mnemo {
namespace {

int64_t TargetOf(SimdLevel level) {
  switch (level) {
    case SimdLevel::kScalar:
      return 0;
    case SimdLevel::kSsse3:
      return HWY_SSSE3;
    case SimdLevel::kSse4:
      return HWY_SSE4;
    case SimdLevel::kAvx2:
      return HWY_AVX2;
    case SimdLevel::kAvx3:
      return HWY_AVX3;
    case SimdLevel::kAvx3Dl:
      return HWY_AVX3_DL;
  }
  return 0;
}

Kernels MakeTable(SimdLevel level) {
  Kernels table;
  table.level = level;
  kernels::FillScalar(table);
  if (level != SimdLevel::kScalar) {
    kernels::FillFloat(TargetOf(level), table);
    kernels::FillCode(TargetOf(level), table);
  }
  return table;
}

// One table a supported level, in the order of SupportedSimdLevels.
const std::vector<Kernels>& Tables() {
  static const std::vector<Kernels> tables = [] {
    std::vector<Kernels> made;
    for (const SimdLevel level : SupportedSimdLevels()) made.push_back(MakeTable(level));
    return made;
  }();
  return tables;
}

}  // namespace

absl::StatusOr<const Kernels*> FindKernels(std::optional<SimdLevel> level) {
  if (!level.has_value()) return &Tables().back();
  for (const Kernels& table : Tables()) {
    if (table.level == *level) return &table;
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "simd level ", std::string(SimdLevelName(*level)), " is not supported here; the best is ",
      std::string(SimdLevelName(Tables().back().level))));
}

const Kernels& BestKernels() { return Tables().back(); }

}  // namespace mnemo
