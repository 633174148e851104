// What all stored values of contexts have in common: a version in front, and a
// checksum behind that covers the key.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/base/checksum.h"

namespace mnemo {

inline constexpr size_t kSealBytes = 8;

// Appends the checksum of `value` under `seed`, which stands for its key.
inline void SealValue(std::string& value, uint64_t seed) {
  AppendLittle<uint64_t>(value, Checksum64(AsBytes(value), seed));
}

// A reader of what lies between version and checksum. Errors: kDataLoss (too
// short, the checksum), kFailedPrecondition (another version; both are named).
inline absl::StatusOr<ByteReader> OpenValue(ByteView value, uint64_t seed, uint8_t version,
                                            std::string_view what) {
  if (value.size() < 1 + kSealBytes) return absl::DataLossError(fmt::format("{}: cut short", what));
  const ByteView body = value.first(value.size() - kSealBytes);
  if (LoadLittle<uint64_t>(value.data() + body.size()) != Checksum64(body, seed)) {
    return absl::DataLossError(fmt::format("{}: the checksum does not match", what));
  }
  if (body[0] != version) {
    return absl::FailedPreconditionError(
        fmt::format("{}: format version {}, this build reads {}", what, body[0], version));
  }
  return ByteReader(body.subspan(1));
}

}  // namespace mnemo
