// The words of contexts: what one is, and the tokens that go into it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "storage/base/bytes.h"
#include "storage/base/element_type.h"
#include "storage/base/level.h"
#include "storage/tier/stored_key.h"

namespace mnemo {

// Unit of storing, of summaries and of the lexical index.
inline constexpr uint64_t kChunkTokens = 128;
// Unit of placing: no index segment and no chunk crosses it.
inline constexpr uint64_t kRangeTokens = 131'072;
// Unit of moving between levels.
inline constexpr uint64_t kRunTokens = 2048;
inline constexpr uint64_t kRunsPerRange = kRangeTokens / kRunTokens;
// A group of rows takes no more, unless one row does.
inline constexpr size_t kGroupBytes = 8 << 10;
// Positions are below it.
inline constexpr uint64_t kMaxPosition = uint64_t{1} << 48;

inline constexpr uint32_t kMaxContextDimension = 4096;
inline constexpr size_t kMaxTokensPerAppend = 8192;
inline constexpr size_t kMaxPayloadBytes = 64 << 10;  // of one payload
inline constexpr size_t kMaxContextName = 128;
inline constexpr size_t kMaxLabels = 16;
inline constexpr size_t kMaxLabelKey = 64;
inline constexpr size_t kMaxLabelValue = 256;

// Where a token came from. On disk and on the wire: never renumber.
enum class TokenKind : uint8_t {
  kUnspecified = 0,
  kSystem = 1,
  kUser = 2,
  kAssistant = 3,
  kTool = 4,
  kDocument = 5,
  kCode = 6,
};
inline constexpr uint8_t kTokenKinds = 7;

using Labels = std::vector<std::pair<std::string, std::string>>;  // by key, each once

// What a context is; fixed when it is created.
struct ContextSpec {
  std::string name;                            // 1 to 128 bytes, unique within the tenant
  uint32_t dimension = 0;                      // 1 to 4,096
  ElementType stored = ElementType::kFloat16;  // kFloat16, kInt8 or kRotated4
  Metric metric = Metric::kCosine;
  uint32_t kinds = 0;  // bit k: TokenKind k may be appended; 0: all
  Labels labels;       // at most 16; keys of 1 to 64 bytes, values of at most 256
  // kInterval or kSync. Tokens of a kSync context are on stable storage before
  // they are acknowledged; those of a kInterval one some time later, unless an
  // append asks for more.
  Durability durability = Durability::kSync;

  size_t row_bytes() const { return RowBytes(stored, dimension); }
  // What rows are searched, and summaries stored, as: distances want single values.
  ElementType searched() const {
    return stored == ElementType::kRotated4 ? ElementType::kFloat16 : stored;
  }
  // Bits a value as stored, what a row has of its own not counted.
  uint32_t fidelity_bits() const;
  // Tokens of a complete chunk whose embeddings are one stored value, so that a
  // search which wants one row reads no more than that: the largest power of two
  // that takes at most kGroupBytes, 1 to 128.
  uint32_t group_tokens() const {
    const size_t rows = std::clamp<size_t>(kGroupBytes / row_bytes(), 1, kChunkTokens);
    return static_cast<uint32_t>(std::bit_floor(rows));
  }
  // kInvalidArgument, naming the field and its range.
  absl::Status Validate() const;
  friend bool operator==(const ContextSpec&, const ContextSpec&) = default;
};

// The first field in which two specs differ, with both values; empty if none.
std::string FirstDifference(const ContextSpec& present, const ContextSpec& asked);

// A context as it was created. Immutable.
struct ContextRecord {
  KeyScope scope;  // tenant, and the context's id: random, not 0, never reused
  ContextSpec spec;
  int64_t created_unix_us = 0;
  friend bool operator==(const ContextRecord&, const ContextRecord&) = default;
};

// Where a context stands; changes with every append.
struct ContextHead {
  uint64_t next_position = 0;  // = the number of tokens
  bool sealed = false;
  // The last claim: who writes, and a number that grows with every claim.
  uint64_t writer = 0;  // 0: nobody has claimed it
  uint64_t claim = 0;
  // The last batch that was stored: what a repeat is held against.
  uint64_t last_first = 0;
  uint32_t last_count = 0;
  uint64_t last_digest = 0;
  uint64_t payloads = 0, payload_bytes = 0;
  friend bool operator==(const ContextHead&, const ContextHead&) = default;
};

// Opaque bytes that belong to some tokens: their text, say.
struct PayloadView {
  uint64_t first_position = 0;
  uint64_t count = 0;      // tokens covered
  std::string_view bytes;  // 1 byte to 64 KiB
};

// Neighbouring tokens, column by column; columns are little-endian and need no
// alignment. Views of somebody's memory.
struct TokenColumns {
  uint64_t first_position = 0;
  uint32_t count = 0;
  ByteView ids;    // u32 [count]; empty: all 0
  ByteView kinds;  // u8 [count]; empty: all `kind`
  TokenKind kind = TokenKind::kUnspecified;
  ElementType embedding_type = ElementType::kFloat32;  // in: fp32, fp16, bf16
  ByteView embeddings;                                 // rows [count]
  ByteView importances;                                // f32 [count] in [0, 1]; empty: not known
  ByteView times_unix_us;                              // i64 [count]; empty in: when it was stored
  std::vector<PayloadView> payloads;                   // by position, disjoint, within the batch
};

// Checks a batch against what it is for, and that it is well formed: sizes of
// columns, finite embeddings that the stored type can hold, kinds, importances,
// payloads. Errors: kInvalidArgument naming the field, the token's index and
// the allowed range; kOutOfRange (a position from 2^48 on).
absl::Status ValidateColumns(const ContextSpec& spec, const TokenColumns& tokens);

}  // namespace mnemo
