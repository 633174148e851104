// Stored keys from a hostile disk: refused, or exactly what their maker writes.
#include <string>

#include "storage/base/status_macros.h"
#include "storage/block/block_key.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mnemo;
  const StoredKey stored = StoredKey::FromBytes(std::string(AsText({data, size})));
  const auto part = PartKey::FromStored(stored);
  if (!part.ok()) {
    MNEMO_CHECK(part.status().code() == absl::StatusCode::kDataLoss);
    return 0;
  }
  MNEMO_CHECK(part->Stored() == stored);
  return 0;
}
