#include "index/kernels/kernels.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "index/kernels/tables.h"

namespace mnemo {
namespace {

Kernels MakeTable(SimdLevel level) {
  Kernels table;
  table.level = level;
  kernels::FillScalar(table);
  if (level != SimdLevel::kScalar) {
    kernels::FillFloat(HighwayTarget(level), table);
    kernels::FillCode(HighwayTarget(level), table);
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
