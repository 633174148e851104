// Metadata from a hostile disk: refused, or exactly what its encoder writes.
#include "storage/base/status_macros.h"
#include "storage/tier/block_level.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mnemo;
  const auto metadata = DecodeMetadata({data, size});
  if (!metadata.ok()) {
    MNEMO_CHECK(metadata.status().code() == absl::StatusCode::kDataLoss);
    return 0;
  }
  MNEMO_CHECK(metadata->parent.size() <= 64);
  MNEMO_CHECK(EncodeMetadata(*metadata) == AsText({data, size}));
  return 0;
}
