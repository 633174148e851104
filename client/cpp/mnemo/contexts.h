// Contexts: streams of token embeddings, appended, read and searched.
//
// Values mirror proto/mnemo/v1/context.proto, which holds units, ranges and
// defaults; here only what differs is said.
#pragma once

#include <cstdint>
#include <functional>
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
#include "mnemo/options.h"
#include "mnemo/types.h"

namespace mnemo::client {

class Core;

enum class Metric { kDefault = 0, kCosine = 1, kInnerProduct = 2, kL2 = 3 };
enum class TokenKind : uint8_t {
  kUnspecified = 0,
  kSystem = 1,
  kUser = 2,
  kAssistant = 3,
  kTool = 4,
  kDocument = 5,
  kCode = 6
};
using Labels = std::vector<std::pair<std::string, std::string>>;

// A context, by the id that Create answered or by its name.
struct ContextRef {
  ContextRef(uint64_t id) : ref(id) {}                      // NOLINT: meant to convert
  ContextRef(std::string name) : ref(std::move(name)) {}    // NOLINT: meant to convert
  ContextRef(const char* name) : ref(std::string(name)) {}  // NOLINT: meant to convert

  std::variant<uint64_t, std::string> ref;
};

struct Context {
  uint64_t id = 0;  // given by the server
  std::string name;
  uint32_t dimension = 0;
  DType stored_dtype = DType::kUnspecified;  // F16, kInt8 or kInt4; F16
  Metric metric = Metric::kDefault;          // cosine
  std::vector<TokenKind> kinds;
  Labels labels;
  Durability durability = Durability::kDefault;  // sync
  int64_t created_unix_us = 0;                   // given by the server, as what follows
  uint64_t tokens = 0;
  bool sealed = false;
};

struct CreatedContext {
  Context context;
  bool created = false;
};

// Bytes of a range of tokens.
struct PayloadView {
  uint64_t first = 0;  // counted from the first token of the columns
  uint64_t count = 0;
  std::string_view data;
};

// Neighbouring tokens to append, column by column; any number of them. Views
// need live only until the function that takes them returns.
struct TokenColumns {
  size_t count = 0;
  DType embedding_dtype = DType::kF32;  // F32, F16 or BF16
  Bytes embeddings;                     // [count, dimension], row by row
  std::span<const uint32_t> ids = {};   // as all that follow: `count` of them, or none
  std::span<const uint8_t> kinds = {};
  TokenKind kind = TokenKind::kUnspecified;  // of all, where `kinds` is empty
  std::span<const float> importances = {};
  std::span<const int64_t> times_unix_us = {};
  std::span<const PayloadView> payloads = {};
};

struct WriterOptions {
  // Names this writer; 0: a random number.
  uint64_t writer_id = 0;
  Durability durability = Durability::kDefault;  // the context's own
  // Where the first token goes. If absent, to the end.
  std::optional<uint64_t> first_position = std::nullopt;
  // Until the writer must have ended, reconnections included.
  Millis timeout{3'600'000};
  CancelSource* cancel = nullptr;
};

// A stream of appends, exactly once: after a lost connection it starts again
// and sends what was not acknowledged. Not thread-safe. Must not outlive its
// client. Of two writers of a context, the one that started last goes on.
//
// Errors of all functions: kOutOfRange (a gap), kAlreadyExists (other tokens
// are there), kAborted (another writer has claimed the context),
// kFailedPrecondition (sealed), kNotFound, kInvalidArgument. After an error
// the writer is at its end; acknowledged() says what is stored.
class ContextWriter {
 public:
  ContextWriter(const ContextWriter&) = delete;
  ContextWriter& operator=(const ContextWriter&) = delete;
  // Cancels what is not acknowledged.
  ~ContextWriter();

  // Returns when the tokens are on their way: some 16 MiB may be unanswered.
  absl::Status Append(const TokenColumns& tokens);
  // Returns when all of them are as durable as asked. Answers the next position.
  absl::StatusOr<uint64_t> Flush();
  // All positions below are acknowledged.
  uint64_t acknowledged() const;
  // Batches that the server had already.
  uint64_t repeated_batches() const;

  class Impl;
  explicit ContextWriter(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

struct ReadRequest {
  ContextRef context;
  uint64_t first_position = 0;
  uint64_t count = 0;
  bool without_embeddings = false;
  DType embedding_dtype = DType::kF32;  // F32 or F16
  bool with_payloads = false;
};

// Neighbouring tokens as read. Views live as long as the call that shows them.
struct TokenRun {
  uint64_t first_position = 0;
  uint32_t count = 0;
  DType embedding_dtype = DType::kF32;
  Bytes embeddings;  // as all columns: unaligned
  Bytes ids;
  Bytes kinds;
  Bytes importances;
  Bytes times_unix_us;
  std::vector<PayloadView> payloads;  // `first` is a position of the context
  Level level = Level::kNone;
  uint32_t bits_per_value = 0;
};

struct RangeSummary {
  uint64_t first_position = 0;
  uint64_t count = 0;
  std::vector<float> mean;
  std::vector<float> minimum;
  std::vector<float> maximum;
  double mean_square_norm = 0;
  float largest_importance = 0;
  std::optional<uint64_t> medoid_position;
  std::vector<uint32_t> top_ids;
  Level level = Level::kNone;
};

struct TokenFilter {
  std::vector<TokenKind> kinds;
  uint64_t first_position = 0;
  uint64_t end_position = 0;
  std::optional<int64_t> from_unix_us;
  std::optional<int64_t> until_unix_us;
  std::optional<bool> has_payload;
};

struct SearchRequest {
  std::vector<ContextRef> contexts;
  Labels labels = {};
  uint32_t dimension = 0;
  std::span<const float> queries;  // [n, dimension]
  uint32_t k = 0;
  TokenFilter filter = {};
  uint32_t resolution = 0;
  uint32_t ef_search = 0;
  uint32_t nprobe = 0;
  float target_recall = 0;
  bool with_payloads = false;
};

struct RangePayload {
  uint64_t first_position = 0;
  uint64_t count = 0;
  std::string data;
};

struct SearchHit {
  uint64_t context_id = 0;
  uint64_t position = 0;
  uint64_t first_position = 0;
  uint64_t count = 0;
  float score = 0;
  TokenKind kind = TokenKind::kUnspecified;
  uint32_t token_id = 0;
  int64_t time_unix_us = 0;
  Level level = Level::kNone;
  bool indexed = false;
  std::optional<RangePayload> payload;
};

struct SearchWork {
  uint32_t contexts = 0;
  uint32_t segments = 0;
  uint64_t distances = 0;
  uint64_t reranked = 0;
  uint64_t unindexed_tokens = 0;
  uint64_t engine_us = 0;
};

struct SearchResult {
  std::vector<std::vector<SearchHit>> hits;  // of each query
  SearchWork work;
};

struct BlockLink {
  uint64_t first_position = 0;
  SpaceRef space;
  std::vector<std::string> keys;
};

struct ContextRun {
  uint64_t first_position = 0;
  uint64_t count = 0;
  Level level = Level::kNone;
  uint32_t bits_per_value = 0;
  std::string index;
};

struct LevelShare {
  Level level = Level::kNone;
  uint64_t tokens = 0;
  uint64_t bytes = 0;
};

// Summaries of one size, in tokens, that a worker has written.
struct SummaryShare {
  uint32_t resolution = 0;
  uint64_t count = 0;
};

struct ContextDescription {
  Context context;
  uint64_t writer_id = 0;
  uint64_t payloads = 0;
  uint64_t payload_bytes = 0;
  uint64_t links = 0;
  std::vector<LevelShare> levels;
  uint64_t indexed_tokens = 0;
  uint32_t segments = 0;
  uint64_t index_bytes = 0;
  uint64_t summaries = 0;
  std::vector<SummaryShare> summary_shares;  // the smallest size first
  std::vector<ContextRun> runs;
};

// Makes, fills and searches contexts; each call waits for its answer.
// Thread-safe.
class Contexts {
 public:
  explicit Contexts(Core& core) : core_(core) {}

  // Gets the context of this name or creates it.
  absl::StatusOr<CreatedContext> Create(const Context& context, const CallOptions& options = {});
  // Claims the context; waits until the server has said where the stream goes on.
  absl::StatusOr<std::unique_ptr<ContextWriter>> Write(const ContextRef& context,
                                                       const WriterOptions& options = {});
  // Shows the tokens of a range, run by run, in order. What `show` returns ends
  // the read if it is not OK. Not retried: go on behind the last run.
  absl::Status Read(const ReadRequest& request,
                    const std::function<absl::Status(const TokenRun&)>& show,
                    const CallOptions& options = {});
  // Summaries of `resolution` tokens: 128, 512, 2,048 and so on up to 131,072.
  absl::StatusOr<std::vector<RangeSummary>> Summaries(const ContextRef& context,
                                                      uint32_t resolution, uint64_t first = 0,
                                                      uint64_t count = 0, bool vectors = true,
                                                      const CallOptions& options = {});
  absl::StatusOr<RangeSummary> Summarize(const ContextRef& context, uint64_t first = 0,
                                         uint64_t count = 0, const CallOptions& options = {});
  absl::StatusOr<SearchResult> Search(const SearchRequest& request,
                                      const CallOptions& options = {});
  absl::Status Link(const ContextRef& context, const BlockLink& link,
                    const CallOptions& options = {});
  // However many pages that takes.
  absl::StatusOr<std::vector<BlockLink>> Links(const ContextRef& context, uint64_t first = 0,
                                               uint64_t count = 0, const CallOptions& options = {});
  // Answers how many tokens it has.
  absl::StatusOr<uint64_t> Seal(const ContextRef& context, const CallOptions& options = {});
  // Answers how many tokens are gone.
  absl::StatusOr<uint64_t> Delete(const ContextRef& context, bool wait = false,
                                  const CallOptions& options = {});
  absl::StatusOr<ContextDescription> Describe(const ContextRef& context, uint32_t max_runs = 0,
                                              const CallOptions& options = {});
  // By name, however many pages that takes.
  absl::StatusOr<std::vector<Context>> List(const Labels& labels = {},
                                            const CallOptions& options = {});

 private:
  Core& core_;
};

}  // namespace mnemo::client
