// Operations on contexts: streams of token embeddings.
//
// Semantics and errors are those of proto/mnemo/v1/context.proto; the structs
// here mirror its messages field by field without protobuf. Views point into
// the request, which outlives the call.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "index/kernels/element_type.h"
#include "index/kernels/kernels.h"
#include "server/engine/call.h"
#include "server/engine/space_engine.h"
#include "storage/base/bytes.h"
#include "storage/base/level.h"

namespace mnemo {

inline constexpr size_t kMaxTokensPerAppend = 8192;   // of one message
inline constexpr size_t kMaxPayloadBytes = 64 << 10;  // of one range
inline constexpr size_t kMaxQueriesPerSearch = 64;
inline constexpr size_t kMaxContextsPerSearch = 4096;
inline constexpr uint32_t kMaxHits = 1024;
inline constexpr uint64_t kMaxPosition = uint64_t{1} << 48;

// By id, by name, or (monostate) not given, which is kInvalidArgument.
using ContextRef = std::variant<std::monostate, uint64_t, std::string>;

enum class TokenKind : uint8_t {
  kUnspecified = 0,
  kSystem = 1,
  kUser = 2,
  kAssistant = 3,
  kTool = 4,
  kDocument = 5,
  kCode = 6
};
using Labels = std::vector<std::pair<std::string, std::string>>;  // sorted by key, unique

// What a context is; fixed when it is created, but for labels (not changed in this version).
struct ContextSpec {
  std::string name;                            // 1 to 128 bytes, unique within the tenant
  uint32_t dimension = 0;                      // 1 to 4,096
  ElementType stored = ElementType::kFloat16;  // kFloat16 or kInt8
  Metric metric = Metric::kCosine;
  uint32_t kinds = 0;                         // bit k: TokenKind k may be appended; 0: all
  Labels labels;                              // at most 16, keys 1 to 64 bytes, values 0 to 256
  Durability durability = Durability::kSync;  // of an Append that names none: kInterval or kSync
};

struct ContextInfo {  // small; what List gives
  uint64_t id = 0;
  ContextSpec spec;
  int64_t created_unix_us = 0;
  uint64_t tokens = 0;  // = next position
  bool sealed = false;
};

// Tokens, column by column, little-endian, unaligned.
struct PayloadView {
  uint64_t first_position = 0;
  uint64_t count = 0;      // tokens covered
  std::string_view bytes;  // at most 64 KiB
};
struct TokenColumns {
  uint64_t first_position = 0;
  uint32_t count = 0;
  ByteView ids;    // u32 [count]; empty: all 0
  ByteView kinds;  // u8 [count]; empty: all `kind`
  TokenKind kind = TokenKind::kUnspecified;
  ElementType embedding_type = ElementType::kFloat32;  // fp32, fp16, bf16
  ByteView embeddings;                                 // [count, dimension]
  ByteView importances;                                // f32 [count] in [0, 1]; empty: not known
  ByteView times_unix_us;             // i64 [count]; empty: when the server got them
  std::vector<PayloadView> payloads;  // within the batch's positions
};

struct AppendStart {
  ContextRef context;
  uint64_t writer_id = 0;  // not 0
  std::optional<Durability> durability;
};
struct AppendAnswer {
  uint64_t next_position = 0;
  bool repeated = false;  // the same batch was here already
};
// One stream of one writer. Not thread-safe. Opening it claims the context and fences earlier
// sessions, also those of the same writer id.
class AppendSession {
 public:
  virtual ~AppendSession() = default;
  virtual uint64_t context_id() const = 0;
  virtual uint32_t dimension() const = 0;
  // Where the next batch has to begin, as far as is acknowledged.
  virtual uint64_t next_position() const = 0;
  // Whole or not at all; blocks until acknowledged by the class. Errors: kOutOfRange (a gap;
  // next_position() says what is expected), kAlreadyExists (a repeat with other contents), kAborted
  // (fenced by a later claim), kFailedPrecondition (sealed), kNotFound (deleted), kInvalidArgument
  // (dimension, NaN, kind, ... naming the token's index), kResourceExhausted.
  virtual absl::StatusOr<AppendAnswer> Append(const TokenColumns& tokens) = 0;
};

struct TokenFilter {
  uint32_t kinds = 0;  // bit k: TokenKind k; 0: all
  uint64_t first_position = 0;
  uint64_t end_position = 0;             // exclusive; 0: no end
  std::optional<int64_t> from_unix_us;   // inclusive
  std::optional<int64_t> until_unix_us;  // exclusive
  std::optional<bool> has_payload;
};

struct ContextReadRequest {
  ContextRef context;
  uint64_t first_position = 0;
  uint64_t count = 0;       // 0: to the end
  uint32_t resolution = 1;  // 1: tokens; 128, 512, 2048 ... 131072: summaries
  bool want_embeddings =
      true;  // tokens: as stored or converted to `embedding_type`; summaries: mean, min, max
  ElementType embedding_type = ElementType::kFloat32;  // fp32 or fp16
  bool want_payloads = false;
};
// A node of the segment tree, or a stretch of one.
struct RangeSummary {
  uint64_t first_position = 0;
  uint64_t count = 0;
  std::vector<float> mean, min, max;  // [dimension]; empty unless wanted
  double mean_square_norm = 0;
  float largest_importance = 0;
  std::optional<uint64_t> medoid;  // position; once consolidated
  std::vector<uint32_t> top_ids;
  Level level = Level::kL1;
};
// Either tokens or summaries. Owns what its views point to.
struct ContextReadStep {
  TokenColumns tokens;          // count 0 when summaries
  uint32_t fidelity_bits = 16;  // bits a value as stored
  Level level = Level::kL1;     // where it was read from
  std::vector<RangeSummary> summaries;
  std::shared_ptr<const void> owner;
};
class ContextReadSession {
 public:
  virtual ~ContextReadSession() = default;
  virtual uint64_t NextBytes() const = 0;  // as GetSession
  virtual absl::StatusOr<std::optional<ContextReadStep>>
  Next() = 0;  // at most 1 MiB of columns a step; kDataLoss names the range
};

struct ContextSearchRequest {
  std::vector<ContextRef>
      contexts;  // or, if empty, all that have `labels` (all of the tenant where empty)
  Labels labels;
  uint32_t dimension =
      0;  // of the queries; contexts named must agree, selected ones that do not are left out
  std::span<const float> queries;  // [n, dimension]
  uint32_t k = 10;
  TokenFilter filter;
  uint32_t resolution = 1;      // 1: tokens; 128, 512, 2048: summaries
  uint32_t ef = 0, nprobe = 0;  // 0: by target_recall
  float target_recall = 0.95F;
  bool want_payload = false;
};
struct ContextHit {
  uint64_t context_id = 0;
  uint64_t position = 0;                   // of the token, or of the summary's medoid
  uint64_t first_position = 0, count = 1;  // what a summary covers
  float score = 0;  // larger is nearer: inner product, cosine, minus squared L2
  TokenKind kind = TokenKind::kUnspecified;
  uint32_t token_id = 0;
  int64_t time_unix_us = 0;
  Level level = Level::kL1;  // of its chunk
  bool indexed = false;      // found through a sealed segment
  std::optional<uint64_t> payload_first;
  uint64_t payload_count = 0;
  std::string payload;  // the range that covers it
};
struct ContextSearchAnswer {
  std::vector<std::vector<ContextHit>> hits;            // of each query, best first
  uint32_t contexts = 0, segments = 0;                  // searched
  uint64_t distances = 0, reranked = 0, unindexed = 0;  // tokens
};

struct BlockLink {
  uint64_t first_position = 0;  // of the first token of keys[0]
  SpaceRef
      space;  // keys[i] covers tokens_per_block tokens from first_position + i * tokens_per_block
  std::vector<std::string> keys;
};

struct ContextRun {  // neighbouring chunks that lie alike
  uint64_t first_position = 0, count = 0;
  Level level = Level::kL1;
  uint32_t fidelity_bits = 16;
  std::string index;  // "growing", "flat", "hnsw", "ivf", "none"
};
struct ContextDescription {
  ContextInfo info;
  uint64_t writer_id = 0;  // the last claim; 0: none
  uint64_t payload_ranges = 0, payload_bytes = 0, links = 0;
  std::array<uint64_t, kLevelCount> level_tokens{}, level_bytes{};
  uint64_t indexed_tokens = 0, index_bytes = 0, summaries = 0;
  uint32_t segments = 0;
  std::vector<ContextRun> runs;  // in order; merged so that there are at most `max_runs`
};

// Thread-safe. Calls block on disk; the caller brings the threads.
class ContextEngine {
 public:
  virtual ~ContextEngine() = default;
  struct Created {
    ContextInfo info;
    bool created = false;
  };
  // Gets the context of this name or creates it. kFailedPrecondition if it is there and differs.
  virtual absl::StatusOr<Created> Create(const CallContext& call, const ContextSpec& spec) = 0;
  // `call` outlives the session.
  virtual absl::StatusOr<std::unique_ptr<AppendSession>> Append(const CallContext& call,
                                                                const AppendStart& start) = 0;
  virtual absl::StatusOr<std::unique_ptr<ContextReadSession>> Read(
      const CallContext& call, const ContextReadRequest& request) = 0;
  // Any range, from O(log n) nodes.
  virtual absl::StatusOr<RangeSummary> Summarize(const CallContext& call, const ContextRef& context,
                                                 uint64_t first, uint64_t count) = 0;
  virtual absl::StatusOr<ContextSearchAnswer> Search(const CallContext& call,
                                                     const ContextSearchRequest& request) = 0;
  virtual absl::Status Link(const CallContext& call, const ContextRef& context,
                            const BlockLink& link) = 0;
  // Links that overlap the range.
  virtual absl::StatusOr<std::vector<BlockLink>> Links(const CallContext& call,
                                                       const ContextRef& context, uint64_t first,
                                                       uint64_t count) = 0;
  // No appends from now on; returns the number of tokens. Idempotent.
  virtual absl::StatusOr<uint64_t> Seal(const CallContext& call, const ContextRef& context) = 0;
  // Returns how many tokens are gone. Idempotent: 0 where there is none. With `wait`, bytes are
  // gone from disk when it returns.
  virtual absl::StatusOr<uint64_t> Delete(const CallContext& call, const ContextRef& context,
                                          bool wait) = 0;
  virtual absl::StatusOr<ContextDescription> Describe(const CallContext& call,
                                                      const ContextRef& context,
                                                      uint32_t max_runs) = 0;
  // By name; every label of `labels` must be there. `next` is empty on the last page.
  virtual absl::StatusOr<std::vector<ContextInfo>> List(const CallContext& call,
                                                        const Labels& labels, uint32_t page_size,
                                                        const std::string& page_token,
                                                        std::string& next) = 0;
};

}  // namespace mnemo
