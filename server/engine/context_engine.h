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
#include "server/engine/call.h"
#include "server/engine/space_engine.h"
#include "storage/base/bytes.h"
#include "storage/base/level.h"
#include "storage/context/context_store.h"
#include "storage/context/context_types.h"

namespace mnemo {

inline constexpr size_t kMaxQueriesPerSearch = 64;
inline constexpr size_t kMaxContextsPerSearch = 4096;
inline constexpr uint32_t kMaxHits = 1024;
inline constexpr uint32_t kMaxRuns = 1024;

// By id, by name, or (monostate) not given, which is kInvalidArgument.
using ContextRef = std::variant<std::monostate, uint64_t, std::string>;

struct ContextInfo {
  uint64_t id = 0;
  ContextSpec spec;
  int64_t created_unix_us = 0;
  uint64_t tokens = 0;  // which is the next position
  bool sealed = false;
};

struct AppendStart {
  ContextRef context;
  uint64_t writer_id = 0;  // not 0
  std::optional<Durability> durability;
};

// One stream of one writer. Not thread-safe. Opening it claims the context and
// fences earlier sessions, also those of the same writer id.
class AppendSession {
 public:
  virtual ~AppendSession() = default;
  virtual uint64_t context_id() const = 0;
  virtual uint32_t dimension() const = 0;
  // Where the next batch has to begin, as far as is acknowledged.
  virtual uint64_t next_position() const = 0;
  // Whole or not at all; blocks until acknowledged by the class. Errors:
  // kOutOfRange (a gap), kAlreadyExists (other tokens are there), kAborted (a
  // later claim), kFailedPrecondition (sealed), kNotFound (deleted),
  // kInvalidArgument (naming the token), kResourceExhausted.
  virtual absl::StatusOr<AppendResult> Append(const TokenColumns& tokens) = 0;
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
  uint64_t count = 0;           // 0: to the end
  uint32_t resolution = 1;      // 1: tokens; 128, 512, 2048 ... 131072: summaries
  bool want_embeddings = true;  // of tokens; of summaries: mean, min and max
  ElementType embedding_type = ElementType::kFloat32;  // fp32 or fp16
  bool want_payloads = false;
};

struct RangeSummary {
  uint64_t first_position = 0;
  uint64_t count = 0;
  std::vector<float> mean;  // [dimension], as the next two; empty unless wanted
  std::vector<float> min;
  std::vector<float> max;
  double mean_square_norm = 0;
  float largest_importance = 0;
  std::optional<uint64_t> medoid;  // position; once consolidated
  std::vector<uint32_t> top_ids;
  Level level = Level::kL1;
};

// Either tokens or summaries. `owner` owns what the views point to.
struct ContextReadStep {
  TokenColumns tokens;          // count 0: these are summaries
  uint32_t fidelity_bits = 16;  // bits a value as stored
  Level level = Level::kL1;     // where it was read from
  std::vector<RangeSummary> summaries;
  std::shared_ptr<const void> owner;
};

// A read in progress. Not thread-safe.
class ContextReadSession {
 public:
  virtual ~ContextReadSession() = default;
  // How many bytes the next step takes into RAM, at most; 0 at the end. The
  // caller claims them first, and holds them while it holds the step.
  virtual uint64_t NextBytes() const = 0;
  // The next step, or none at the end. Blocks on the disk. Errors: kDataLoss
  // (naming the positions), kNotFound (deleted meanwhile), kCancelled,
  // kDeadlineExceeded.
  virtual absl::StatusOr<std::optional<ContextReadStep>> Next() = 0;
};

struct ContextSearchRequest {
  std::vector<ContextRef> contexts;  // if empty: all that carry `labels`
  Labels labels;
  // Of the queries. Contexts that are named must agree; of those that labels
  // select, the others are left out.
  uint32_t dimension = 0;
  std::span<const float> queries;  // [n, dimension]
  uint32_t k = 10;
  TokenFilter filter;
  uint32_t resolution = 1;  // 1: tokens; 128, 512, 2048: summaries
  uint32_t ef = 0;          // as nprobe; 0: by target_recall
  uint32_t nprobe = 0;
  float target_recall = 0.95F;
  bool want_payload = false;
};

struct ContextHit {
  uint64_t context_id = 0;
  uint64_t position = 0;        // of the token, or of the summary's medoid
  uint64_t first_position = 0;  // of what a summary covers
  uint64_t count = 1;
  float score = 0;  // the larger the nearer
  TokenKind kind = TokenKind::kUnspecified;
  uint32_t token_id = 0;
  int64_t time_unix_us = 0;
  Level level = Level::kL1;              // of its chunk
  bool indexed = false;                  // found through a sealed segment
  std::optional<StoredPayload> payload;  // that covers `position`
};

struct ContextSearchAnswer {
  std::vector<std::vector<ContextHit>> hits;  // of each query, best first
  uint32_t contexts = 0;                      // searched, as what follows
  uint32_t segments = 0;
  uint64_t distances = 0;
  uint64_t reranked = 0;
  uint64_t unindexed = 0;  // tokens that no sealed segment covers
};

struct BlockLink {
  uint64_t first_position = 0;  // of the first token of keys[0]
  SpaceRef space;
  std::vector<std::string> keys;
};

// Neighbouring chunks that lie alike.
struct ContextRun {
  uint64_t first_position = 0;
  uint64_t count = 0;
  Level level = Level::kL1;
  uint32_t fidelity_bits = 16;
  std::string index;  // "flat", "hnsw" or "ivf"
};

struct ContextDescription {
  ContextInfo info;
  uint64_t writer_id = 0;  // the last claim; 0: none
  uint64_t payload_ranges = 0;
  uint64_t payload_bytes = 0;
  uint64_t links = 0;
  std::array<uint64_t, kLevelCount> level_tokens{};
  std::array<uint64_t, kLevelCount> level_bytes{};
  uint64_t indexed_tokens = 0;
  uint64_t index_bytes = 0;
  std::array<uint64_t, kSummaryLevels> summaries{};  // of 128, 512 and 2,048 tokens
  uint32_t segments = 0;
  std::vector<ContextRun> runs;  // in order of position
};

// Thread-safe. Calls block on disk; the caller brings the threads.
class ContextEngine {
 public:
  virtual ~ContextEngine() = default;
  struct Created {
    ContextInfo info;
    bool created = false;
  };
  // Gets the context of this name or creates it.
  virtual absl::StatusOr<Created> Create(const CallContext& call, const ContextSpec& spec) = 0;
  // `call` outlives the session.
  virtual absl::StatusOr<std::unique_ptr<AppendSession>> Append(const CallContext& call,
                                                                const AppendStart& start) = 0;
  virtual absl::StatusOr<std::unique_ptr<ContextReadSession>> Read(
      const CallContext& call, const ContextReadRequest& request) = 0;
  // `count` 0: to the end, here and below.
  virtual absl::StatusOr<RangeSummary> Summarize(const CallContext& call, const ContextRef& context,
                                                 uint64_t first, uint64_t count) = 0;
  virtual absl::StatusOr<ContextSearchAnswer> Search(const CallContext& call,
                                                     const ContextSearchRequest& request) = 0;
  virtual absl::Status Link(const CallContext& call, const ContextRef& context,
                            const BlockLink& link) = 0;
  // Some of the links that touch the range; `next` is where to go on, or 0.
  virtual absl::StatusOr<std::vector<BlockLink>> Links(const CallContext& call,
                                                       const ContextRef& context, uint64_t first,
                                                       uint64_t count, uint64_t& next) = 0;
  // Returns how many tokens it has.
  virtual absl::StatusOr<uint64_t> Seal(const CallContext& call, const ContextRef& context) = 0;
  // Returns how many tokens are gone. With `wait`, also from the disk.
  virtual absl::StatusOr<uint64_t> Delete(const CallContext& call, const ContextRef& context,
                                          bool wait) = 0;
  virtual absl::StatusOr<ContextDescription> Describe(const CallContext& call,
                                                      const ContextRef& context,
                                                      uint32_t max_runs) = 0;
  // `next` is empty on the last page.
  virtual absl::StatusOr<std::vector<ContextInfo>> List(const CallContext& call,
                                                        const Labels& labels, uint32_t page_size,
                                                        const std::string& page_token,
                                                        std::string& next) = 0;
};

}  // namespace mnemo
