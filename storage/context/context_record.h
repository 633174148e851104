// Stored bytes of what is known about a context, but for its tokens;
// docs/formats/context.md. `seed` is SeedOf the key. Errors of decoding:
// kDataLoss; kFailedPrecondition (another format version).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/context/context_types.h"

namespace mnemo {

std::string EncodeRecord(const ContextRecord& record, uint64_t seed);
absl::StatusOr<ContextRecord> DecodeRecord(KeyScope scope, ByteView value, uint64_t seed);

std::string EncodeHead(const ContextHead& head, uint64_t seed);
absl::StatusOr<ContextHead> DecodeHead(ByteView value, uint64_t seed);

// A deleted context whose keys are still to be erased.
struct ErasedContext {
  Durability durability = Durability::kSync;
  uint64_t tokens = 0;
};
std::string EncodeErased(const ErasedContext& erased, uint64_t seed);
absl::StatusOr<ErasedContext> DecodeErased(ByteView value, uint64_t seed);

// Opaque bytes that belong to some tokens.
struct StoredPayload {
  uint64_t first_position = 0;
  uint64_t count = 0;
  std::string bytes;
  friend bool operator==(const StoredPayload&, const StoredPayload&) = default;
};
std::string EncodePayload(const PayloadView& payload, uint64_t seed);
absl::StatusOr<StoredPayload> DecodePayload(ByteView value, uint64_t seed);

// Which KV blocks hold the attention state of a range.
struct ContextLink {
  static constexpr size_t kMaxKeys = 1024;
  static constexpr size_t kMaxKeyBytes = 64;
  static constexpr uint32_t kMaxTokensPerBlock = 65'536;

  uint64_t first_position = 0;    // of the first token of keys[0]
  uint32_t tokens_per_block = 0;  // 1 to 65,536
  uint64_t space = 0;
  std::vector<std::string> keys;  // 1 to 1,024 of 1 to 64 bytes

  uint64_t end_position() const {
    return first_position + uint64_t{tokens_per_block} * keys.size();
  }
  // kInvalidArgument, naming the field and its range.
  absl::Status Validate() const;
  friend bool operator==(const ContextLink&, const ContextLink&) = default;
};
std::string EncodeLink(const ContextLink& link, uint64_t seed);
absl::StatusOr<ContextLink> DecodeLink(ByteView value, uint64_t seed);

}  // namespace mnemo
