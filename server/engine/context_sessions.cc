#include "server/engine/context_sessions.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "storage/base/half.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/context/embedding.h"

namespace mnemo {
namespace {

// Columns of one step of a read: embeddings, and what stands beside them.
constexpr uint64_t kStepBytes = kMiB;
constexpr uint64_t kColumnBytes = 4 + 1 + 4 + 8;  // id, kind, importance, time
constexpr size_t kTopIds = 8;

class StoredAppendSession final : public AppendSession {
 public:
  StoredAppendSession(const CallContext& call, const Clock& clock, ContextStore& store,
                      ContextIndexer& indexer, const ContextRecord& context,
                      const WriterClaim& claim, Durability durability)
      : call_(call),
        clock_(clock),
        store_(store),
        indexer_(indexer),
        context_(context),
        claim_(claim),
        durability_(durability) {}

  uint64_t context_id() const override { return context_.scope.space; }
  uint32_t dimension() const override { return context_.spec.dimension; }
  uint64_t next_position() const override { return claim_.next_position; }

  absl::StatusOr<AppendResult> Append(const TokenColumns& tokens) override {
    MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, clock_));
    MNEMO_ASSIGN_OR_RETURN(const AppendResult result,
                           store_.Append(context_, claim_, tokens, durability_));
    indexer_.Note(context_, claim_.next_position, result.next_position);
    claim_.next_position = result.next_position;
    return result;
  }

 private:
  const CallContext& call_;
  const Clock& clock_;
  ContextStore& store_;
  ContextIndexer& indexer_;
  const ContextRecord context_;
  WriterClaim claim_;
  const Durability durability_;
};

// What a step of tokens owns.
struct StepColumns {
  std::string ids;
  std::string kinds;
  std::string importances;
  std::string times;
  std::string embeddings;
  std::vector<StoredPayload> payloads;
};

class StoredReadSession final : public ContextReadSession {
 public:
  StoredReadSession(const CallContext& call, const Clock& clock, const ContextReader& reader,
                    const ContextRecord& context, const ContextReadRequest& request, uint64_t end)
      : call_(call),
        clock_(clock),
        reader_(reader),
        context_(context),
        request_(request),
        next_(request.first_position),
        end_(end) {}

  uint64_t NextBytes() const override { return next_ < end_ ? 2 * kStepBytes : 0; }

  absl::StatusOr<std::optional<ContextReadStep>> Next() override {
    if (next_ >= end_) return std::optional<ContextReadStep>();
    MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, clock_));
    return request_.resolution == 1 ? NextTokens() : NextSummaries();
  }

 private:
  uint64_t row_bytes() const {
    return request_.want_embeddings ? RowBytes(request_.embedding_type, context_.spec.dimension)
                                    : 0;
  }

  absl::StatusOr<std::optional<ContextReadStep>> NextTokens() {
    // Steps end at chunks, so that none is read twice.
    const uint64_t chunks = std::clamp(kStepBytes / ((row_bytes() + kColumnBytes) * kChunkTokens),
                                       uint64_t{1}, kMaxTokensPerAppend / kChunkTokens);
    const uint64_t stop = std::min(end_, (next_ / kChunkTokens + chunks) * kChunkTokens);
    auto owner = std::make_shared<StepColumns>();
    ContextReadStep step{
        .tokens = {.first_position = next_, .embedding_type = request_.embedding_type},
        .fidelity_bits = context_.spec.fidelity_bits()};
    MNEMO_RETURN_IF_ERROR(
        reader_.ScanChunks(context_, next_, stop, request_.want_embeddings, [&](ChunkPiece& piece) {
          Take(piece, stop, *owner, step);
          return next_ < stop;
        }));
    if (next_ != stop) {
      return absl::DataLossError(
          fmt::format("context '{}': no tokens from position {}", context_.spec.name, next_));
    }
    if (request_.want_payloads) MNEMO_RETURN_IF_ERROR(TakePayloads(*owner, step));
    step.tokens.ids = AsBytes(owner->ids);
    step.tokens.kinds = AsBytes(owner->kinds);
    step.tokens.importances = AsBytes(owner->importances);
    step.tokens.times_unix_us = AsBytes(owner->times);
    step.tokens.embeddings = AsBytes(owner->embeddings);
    step.owner = std::move(owner);
    return std::optional<ContextReadStep>(std::move(step));
  }

  // Adds the tokens of a piece from next_ to `stop`.
  void Take(const ChunkPiece& piece, uint64_t stop, StepColumns& out, ContextReadStep& step) {
    const ChunkColumns& columns = piece.columns;
    if (columns.first_position > next_) return;  // a hole: seen by the caller
    const uint64_t last = std::min(stop, columns.end_position());
    const size_t begin = next_ - columns.first_position;
    const size_t count = last > next_ ? last - next_ : 0;
    for (size_t i = begin; i < begin + count; ++i) {
      AppendLittle<uint32_t>(out.ids, columns.id(i));
      out.kinds.push_back(static_cast<char>(columns.kind(i)));
      AppendLittle<float>(out.importances, columns.importance(i));
      AppendLittle<int64_t>(out.times, columns.times_unix_us[i]);
    }
    if (request_.want_embeddings) {
      TakeRows(*piece.rows, begin, count, out.embeddings);
      NoteUse();
    }
    step.tokens.count += static_cast<uint32_t>(count);
    step.level = std::max(step.level, piece.level);
    next_ += count;
  }

  // One use of each run, however many steps it takes.
  void NoteUse() {
    const uint64_t run = next_ / kRunTokens;
    if (used_run_ == run) return;
    used_run_ = run;
    reader_.NoteUse(context_, next_);
  }

  void TakeRows(const ChunkRows& rows, size_t begin, size_t count, std::string& out) const {
    const ByteView stored = rows.rows().subspan(begin * rows.row_bytes(), count * rows.row_bytes());
    if (rows.type() == request_.embedding_type) {
      out += AsText(stored);
      return;
    }
    std::vector<float> values(count * rows.dimension());
    DecodeRows(rows.type(), stored.data(), count, rows.dimension(), values.data());
    if (request_.embedding_type == ElementType::kFloat32) {
      out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    } else {
      for (const float value : values) AppendLittle<uint16_t>(out, FloatToHalf(value));
    }
  }

  absl::Status TakePayloads(StepColumns& out, ContextReadStep& step) const {
    const uint64_t first = step.tokens.first_position;
    MNEMO_RETURN_IF_ERROR(reader_.ScanPayloads(context_, first, next_, [&](StoredPayload& payload) {
      // One that began before was given with the step it begins in.
      if (payload.first_position >= first) out.payloads.push_back(std::move(payload));
      return true;
    }));
    for (const StoredPayload& payload : out.payloads) {
      step.tokens.payloads.push_back({.first_position = payload.first_position,
                                      .count = payload.count,
                                      .bytes = payload.bytes});
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<ContextReadStep>> NextSummaries() {
    ContextReadStep step;
    const uint64_t summary_bytes =
        request_.want_embeddings ? 3 * sizeof(float) * context_.spec.dimension : 64;
    for (uint64_t bytes = 0; next_ < end_ && bytes < kStepBytes; bytes += summary_bytes) {
      MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, clock_));
      const uint64_t stop = std::min(end_, (next_ / request_.resolution + 1) * request_.resolution);
      MNEMO_ASSIGN_OR_RETURN(const TreeNode node, reader_.Summarize(context_, next_, stop));
      step.summaries.push_back(ToRangeSummary(node, next_, request_.want_embeddings));
      MNEMO_ASSIGN_OR_RETURN(step.summaries.back().medoid, MedoidOf(next_, stop));
      next_ = stop;
    }
    return std::optional<ContextReadStep>(std::move(step));
  }

  // Of a whole stretch of a size that is consolidated, once it is.
  absl::StatusOr<std::optional<uint64_t>> MedoidOf(uint64_t first, uint64_t end) const {
    const std::optional<uint8_t> level = SummaryLevel(end - first);
    if (!level) return std::nullopt;
    MNEMO_ASSIGN_OR_RETURN(const auto summary, reader_.summaries().At(context_, *level, first));
    if (!summary) return std::nullopt;
    return summary->medoid_position;
  }

  const CallContext& call_;
  const Clock& clock_;
  const ContextReader& reader_;
  const ContextRecord context_;
  const ContextReadRequest request_;
  uint64_t next_;
  const uint64_t end_;
  std::optional<uint64_t> used_run_;  // the last
};

}  // namespace

bool IsSummaryResolution(uint32_t resolution) {
  for (uint8_t level = 0; level <= kRangeLevel; ++level) {
    if (TreeNodeTokens(level) == resolution) return true;
  }
  return false;
}

absl::StatusOr<uint64_t> EndOfRange(uint64_t first, uint64_t count, uint64_t tokens) {
  if (first >= tokens) {
    return absl::OutOfRangeError(
        fmt::format("first_position is {}; the context has {} tokens", first, tokens));
  }
  return count == 0 || count > tokens - first ? tokens : first + count;
}

RangeSummary ToRangeSummary(const TreeNode& node, uint64_t first_position, bool vectors) {
  RangeSummary summary{.first_position = first_position,
                       .count = node.count,
                       .largest_importance = node.largest_importance,
                       .level = Level::kL3};
  if (node.count == 0) return summary;
  const auto count = static_cast<double>(node.count);
  summary.mean_square_norm = node.sum_square_norms / count;
  if (vectors) {
    summary.mean.reserve(node.sum.size());
    for (const float sum : node.sum) summary.mean.push_back(static_cast<float>(sum / count));
    summary.min = node.min;
    summary.max = node.max;
  }
  for (size_t i = 0; i < std::min(kTopIds, node.top_ids.size()); ++i) {
    summary.top_ids.push_back(node.top_ids[i].id);
  }
  return summary;
}

absl::StatusOr<std::unique_ptr<AppendSession>> OpenAppendSession(
    const CallContext& call, const Clock& clock, ContextStore& store, ContextIndexer& indexer,
    const ContextRecord& context, const AppendStart& start) {
  MNEMO_ASSIGN_OR_RETURN(const WriterClaim claim, store.Claim(context, start.writer_id));
  return std::make_unique<StoredAppendSession>(call, clock, store, indexer, context, claim,
                                               start.durability.value_or(context.spec.durability));
}

absl::StatusOr<std::unique_ptr<ContextReadSession>> OpenReadSession(
    const CallContext& call, const Clock& clock, const ContextReader& reader,
    const ContextRecord& context, const ContextReadRequest& request) {
  if (request.resolution != 1 && !IsSummaryResolution(request.resolution)) {
    return absl::InvalidArgumentError(
        fmt::format("resolution is {}; it must be 1, 128, 512, 2048, 8192, 32768 or 131072",
                    request.resolution));
  }
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, reader.Head(context));
  MNEMO_ASSIGN_OR_RETURN(const uint64_t end,
                         EndOfRange(request.first_position, request.count, head.next_position));
  return std::make_unique<StoredReadSession>(call, clock, reader, context, request, end);
}

}  // namespace mnemo
