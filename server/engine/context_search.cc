#include "server/engine/context_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "index/vector/candidates.h"
#include "index/vector/query.h"
#include "index/vector/top_k.h"
#include "server/engine/context_sessions.h"
#include "server/engine/context_vectors.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// A hit's id: which context of the search, and which position of it.
constexpr int kPositionBits = 48;
static_assert(kMaxPosition == uint64_t{1} << kPositionBits);
static_assert(kMaxContextsPerSearch <= uint64_t{1} << (64 - kPositionBits));

absl::Status Check(const ContextSearchRequest& request) {
  const auto range = [](std::string_view field, uint64_t value, uint64_t low, uint64_t high) {
    if (value >= low && value <= high) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("{} is {}; it must be {} to {}", field, value, low, high));
  };
  MNEMO_RETURN_IF_ERROR(range("k", request.k, 1, kMaxHits));
  MNEMO_RETURN_IF_ERROR(range("dimension", request.dimension, 1, kMaxContextDimension));
  MNEMO_RETURN_IF_ERROR(range("ef_search", request.ef, 0, 65536));
  MNEMO_RETURN_IF_ERROR(range("nprobe", request.nprobe, 0, 65536));
  if (!(request.target_recall >= 0.5F && request.target_recall <= 1.0F)) {
    return absl::InvalidArgumentError(
        fmt::format("target_recall is {}; it must be 0.5 to 1", request.target_recall));
  }
  if (request.resolution != 1 && request.resolution != 128 && request.resolution != 512 &&
      request.resolution != 2048) {
    return absl::InvalidArgumentError(
        fmt::format("resolution is {}; it must be 1, 128, 512 or 2048", request.resolution));
  }
  return absl::OkStatus();
}

// Whether a filter asks for more than positions.
bool LooksAtTokens(const TokenFilter& filter) {
  return filter.kinds != 0 || filter.from_unix_us || filter.until_unix_us || filter.has_payload;
}

TokenCondition ConditionOf(const TokenFilter& filter) {
  TokenCondition condition;
  for (size_t stored = 0; stored < condition.kinds.size(); ++stored) {
    const bool payload = (stored & kPayloadBit) != 0;
    const size_t kind = stored & ~size_t{kPayloadBit};
    const bool wanted = filter.kinds == 0 || (kind < 32 && ((filter.kinds >> kind) & 1) != 0);
    condition.kinds[stored] = wanted && (!filter.has_payload || payload == *filter.has_payload);
  }
  if (filter.from_unix_us) condition.first_time_unix_us = *filter.from_unix_us;
  if (!filter.until_unix_us) return condition;
  // Nothing is before the first of all times.
  if (*filter.until_unix_us == std::numeric_limits<int64_t>::min()) condition.kinds.fill(false);
  condition.last_time_unix_us =
      std::max(*filter.until_unix_us, std::numeric_limits<int64_t>::min() + 1) - 1;
  return condition;
}

// Whether any token that a summary covers may be kept, as far as it tells.
bool MayKeep(const TokenFilter& filter, const TreeNode& node) {
  return (filter.kinds == 0 || (filter.kinds & node.kinds) != 0) &&
         (!filter.from_unix_us || node.last_time_unix_us >= *filter.from_unix_us) &&
         (!filter.until_unix_us || node.first_time_unix_us < *filter.until_unix_us) &&
         (!filter.has_payload || !*filter.has_payload || node.payloads);
}

}  // namespace

// One search. Not thread-safe.
class ContextSearcher::Run {
 public:
  Run(const ContextSearcher& searcher, const CallContext& call, const ContextSearchRequest& request,
      const std::vector<ContextRecord>& contexts)
      : reader_(searcher.reader_),
        ranges_(searcher.ranges_),
        clock_(searcher.clock_),
        kernels_(searcher.kernels_),
        call_(call),
        request_(request),
        contexts_(contexts),
        best_(request.queries.size() / request.dimension, TopK(request.k)),
        candidates_(best_.size(), Candidates(request.k)) {}

  absl::StatusOr<ContextSearchAnswer> Execute() {
    for (size_t i = 0; i < contexts_.size(); ++i) MNEMO_RETURN_IF_ERROR(SearchContext(i));
    MNEMO_RETURN_IF_ERROR(ConfirmAll());
    for (TopK& best : best_) {
      auto& hits = answer_.hits.emplace_back();
      for (const Hit& hit : best.Take()) {
        NoteUse(hit);
        MNEMO_ASSIGN_OR_RETURN(ContextHit found, Describe(hit));
        hits.push_back(std::move(found));
      }
    }
    answer_.contexts = static_cast<uint32_t>(contexts_.size());
    answer_.distances = counters_.distances;
    answer_.reranked = counters_.reranked;
    return std::move(answer_);
  }

 private:
  absl::Status SearchContext(size_t ordinal) {
    MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, clock_));
    const ContextRecord& context = contexts_[ordinal];
    MNEMO_RETURN_IF_ERROR(PrepareQueries(context));
    if (context.spec.searched() != searched_) MNEMO_RETURN_IF_ERROR(ConfirmAll());
    searched_ = context.spec.searched();
    MNEMO_ASSIGN_OR_RETURN(const ContextHead head, reader_.Head(context));
    const TokenFilter& filter = request_.filter;
    const uint64_t end = filter.end_position == 0
                             ? head.next_position
                             : std::min(filter.end_position, head.next_position);
    const uint64_t end_range = (end + kRangeTokens - 1) / kRangeTokens;
    for (const uint64_t range :
         ranges_.InOrder(context.scope.space, filter.first_position / kRangeTokens, end_range)) {
      const uint64_t first = std::max(filter.first_position, range * kRangeTokens);
      const uint64_t last = std::min(end, (range + 1) * kRangeTokens);
      MNEMO_RETURN_IF_ERROR(request_.resolution == 1 ? SearchTokens(ordinal, first, last)
                                                     : SearchSummaries(ordinal, first, last));
    }
    return absl::OkStatus();
  }

  // Queries are the same for all contexts of one shape.
  absl::Status PrepareQueries(const ContextRecord& context) {
    const VectorShape shape{.dimension = request_.dimension,
                            .type = context.spec.searched(),
                            .metric = context.spec.metric};
    if (!queries_.empty() && queries_.front().shape().metric == shape.metric) {
      return absl::OkStatus();
    }
    if (!queries_.empty()) {
      return absl::InvalidArgumentError(
          fmt::format("contexts: '{}' and '{}' have different metrics, so their scores cannot be "
                      "compared",
                      contexts_.front().spec.name, context.spec.name));
    }
    for (size_t i = 0; i < best_.size(); ++i) {
      auto query = Query::Prepare(
          shape, request_.queries.subspan(i * request_.dimension, request_.dimension));
      if (!query.ok()) {
        return absl::Status(
            query.status().code(),
            fmt::format("queries[{}]: {}", i, std::string(query.status().message())));
      }
      queries_.push_back(*std::move(query));
    }
    return absl::OkStatus();
  }

  // Positions [first, last) of one range.
  absl::Status SearchTokens(size_t ordinal, uint64_t first, uint64_t last) {
    const ContextRecord& context = contexts_[ordinal];
    const uint64_t range = first / kRangeTokens;
    const uint64_t begin = range * kRangeTokens;
    const auto rows = static_cast<uint32_t>(last - begin);
    std::optional<RowSet> filter;
    if (first != begin || request_.filter.end_position != 0 || LooksAtTokens(request_.filter)) {
      MNEMO_ASSIGN_OR_RETURN(filter, KeptRows(context, first, last));
      if (filter->Count() == 0) return absl::OkStatus();
    }
    MNEMO_ASSIGN_OR_RETURN(const auto set, ranges_.Range(call_, context, range, rows));
    const std::shared_ptr<const SegmentSnapshot> snapshot = set->Snapshot();
    const uint32_t sealed = SealedRows(*snapshot);
    answer_.segments += static_cast<uint32_t>(snapshot->segments().size());
    answer_.unindexed += rows - std::min(rows, sealed);
    if (sealed > 0) sealed_rows_[Id(ordinal, begin)] = sealed;
    SegmentSearch options{.first_id = Id(ordinal, begin),
                          .filter = filter ? &*filter : nullptr,
                          .ef_search = request_.ef,
                          .nprobe = request_.nprobe,
                          .target_recall = request_.target_recall,
                          .cancelled = &call_.cancelled};
    const SearchVectors vectors(reader_, context, begin);
    for (size_t i = 0; i < queries_.size(); ++i) {
      MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, clock_));
      options.candidates = &candidates_[i];
      MNEMO_RETURN_IF_ERROR(snapshot->Search(queries_[i], options, vectors, best_[i], &counters_));
      if (candidates_[i].size() >= Candidates::kMany) MNEMO_RETURN_IF_ERROR(ConfirmFound(i));
    }
    return absl::OkStatus();
  }

  absl::Status ConfirmAll() {
    for (size_t i = 0; i < queries_.size(); ++i) MNEMO_RETURN_IF_ERROR(ConfirmFound(i));
    return absl::OkStatus();
  }

  // Reads what codes found of a query, in all ranges and contexts together.
  absl::Status ConfirmFound(size_t i) {
    if (candidates_[i].size() == 0) return absl::OkStatus();
    const auto read = [&](std::span<const uint64_t> ids, ReadScratch& scratch,
                          std::span<const uint8_t*> out) -> absl::Status {
      MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, clock_));
      for (size_t at = 0; at < ids.size(); ++at) {
        const uint64_t position = ids[at] & (kMaxPosition - 1);
        const uint64_t begin = position / kRangeTokens * kRangeTokens;
        const SearchVectors vectors(reader_, contexts_[ids[at] >> kPositionBits], begin);
        const auto row = static_cast<RowId>(position - begin);
        MNEMO_RETURN_IF_ERROR(vectors.Read({&row, 1}, scratch, out.subspan(at, 1)));
      }
      return absl::OkStatus();
    };
    VectorShape shape = queries_[i].shape();
    shape.type = searched_;
    return Confirm(shape, kernels_, queries_[i], candidates_[i], read, &call_.cancelled, best_[i],
                   &counters_);
  }

  // Whether a sealed segment covers what a hit is about.
  bool IsSealed(const Hit& hit) const {
    const uint64_t row = hit.id % kRangeTokens;
    const auto sealed = sealed_rows_.find(hit.id - row);
    return sealed != sealed_rows_.end() && row < sealed->second;
  }

  // Rows of the range's positions [first, last) that the filter keeps.
  absl::StatusOr<RowSet> KeptRows(const ContextRecord& context, uint64_t first,
                                  uint64_t last) const {
    const uint64_t begin = first / kRangeTokens * kRangeTokens;
    RowSet kept(static_cast<uint32_t>(last - begin));
    if (!LooksAtTokens(request_.filter)) {
      kept.AddRange(static_cast<RowId>(first - begin), static_cast<RowId>(last - begin));
      return kept;
    }
    const TokenCondition condition = ConditionOf(request_.filter);
    // Whole runs from what is cached of them, and the tokens around them as they
    // are stored.
    const uint64_t first_run = (first + kRunTokens - 1) / kRunTokens;
    const uint64_t end_run = std::max(first_run, last / kRunTokens);
    const uint64_t runs_begin = std::min(last, first_run * kRunTokens);
    const uint64_t runs_end = std::max(runs_begin, end_run * kRunTokens);
    MNEMO_RETURN_IF_ERROR(KeepTokens(context, condition, first, runs_begin, begin, kept));
    if (first_run < end_run) {
      MNEMO_ASSIGN_OR_RETURN(const auto runs, reader_.ReadColumns(context, first_run, end_run));
      std::array<uint64_t, RunColumns::kWords> words;
      size_t at = (runs_begin - begin) / 64;
      for (const auto& run : runs) {
        run->Keep(condition, words);
        for (const uint64_t word : words) kept.AddWord(at++, word);
      }
    }
    MNEMO_RETURN_IF_ERROR(KeepTokens(context, condition, runs_end, last, begin, kept));
    return kept;
  }

  // Adds the tokens at [first, last) that the condition keeps, as rows from
  // `begin` on.
  absl::Status KeepTokens(const ContextRecord& context, const TokenCondition& condition,
                          uint64_t first, uint64_t last, uint64_t begin, RowSet& kept) const {
    if (first >= last) return absl::OkStatus();
    absl::Status status;
    MNEMO_RETURN_IF_ERROR(
        reader_.ScanChunks(context, first, last, /*rows=*/false, [&](ChunkPiece& piece) {
          const ChunkColumns& columns = piece.columns;
          for (size_t i = 0; i < columns.count; ++i) {
            const uint64_t position = columns.first_position + i;
            if (position >= first && position < last && condition.Keeps(columns, i)) {
              kept.Add(static_cast<RowId>(position - begin));
            }
          }
          status = CheckGoesOn(call_, clock_);
          return status.ok();
        }));
    return status;
  }

  // One use of each run, however many hits of a search lie in it.
  void NoteUse(const Hit& hit) {
    if (request_.resolution != 1 || !used_runs_.insert(hit.id / kRunTokens).second) return;
    reader_.NoteUse(contexts_[hit.id >> kPositionBits], hit.id & (kMaxPosition - 1));
  }

  // Stretches that lie in [first, last), by their means: those whose summaries
  // are stored by these, the others by nodes of the tree.
  absl::Status SearchSummaries(size_t ordinal, uint64_t first, uint64_t last) {
    const uint64_t step = request_.resolution;
    const uint64_t whole = std::min(last, (first + step - 1) / step * step);
    MNEMO_RETURN_IF_ERROR(SearchNodes(ordinal, first, whole));
    MNEMO_ASSIGN_OR_RETURN(const uint64_t behind, SearchStoredSummaries(ordinal, whole, last));
    return SearchNodes(ordinal, behind, last);
  }

  // From `first`, which is a multiple of the resolution. Returns where they end.
  absl::StatusOr<uint64_t> SearchStoredSummaries(size_t ordinal, uint64_t first, uint64_t last) {
    // A summary does not say what its tokens are, and nodes do.
    if (LooksAtTokens(request_.filter)) return first;
    const ContextRecord& context = contexts_[ordinal];
    const ScoreRowsFn score = kernels_.ScoreRows(context.spec.metric, context.spec.searched());
    absl::Status status;
    uint64_t next = first;
    std::vector<std::pair<uint64_t, uint64_t>> gaps;  // where chunks are damaged
    MNEMO_RETURN_IF_ERROR(reader_.summaries().Scan(
        context, *SummaryLevel(request_.resolution), first, last, [&](ContextSummary& summary) {
          if (summary.first_position + summary.count() > last) return false;
          if (summary.first_position > next) gaps.emplace_back(next, summary.first_position);
          next = summary.first_position;
          const uint8_t* row = AsBytes(summary.row).data();
          for (size_t i = 0; i < queries_.size(); ++i) {
            float value = 0;
            score(queries_[i].values(), &row, 1, request_.dimension, &value);
            best_[i].Push(Id(ordinal, next), value);
          }
          counters_.distances += queries_.size();
          next += summary.count();
          status = CheckGoesOn(call_, clock_);
          return status.ok();
        }));
    MNEMO_RETURN_IF_ERROR(status);
    for (const auto& [begin, end] : gaps) MNEMO_RETURN_IF_ERROR(SearchNodes(ordinal, begin, end));
    return next;
  }

  absl::Status SearchNodes(size_t ordinal, uint64_t first, uint64_t last) {
    const ContextRecord& context = contexts_[ordinal];
    const uint64_t begin = first / kRangeTokens * kRangeTokens;
    const VectorShape shape{.dimension = request_.dimension,
                            .type = ElementType::kFloat32,
                            .metric = context.spec.metric};
    const uint64_t step = request_.resolution;
    const ScoreRowsFn score = kernels_.ScoreRows(shape.metric, shape.type);
    std::vector<float> mean(request_.dimension);
    const auto* row = reinterpret_cast<const uint8_t*>(mean.data());
    for (uint64_t at = begin + (first - begin) / step * step; at < last; at += step) {
      MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, clock_));
      MNEMO_ASSIGN_OR_RETURN(const TreeNode node, reader_.Summarize(context, std::max(at, first),
                                                                    std::min(at + step, last)));
      if (node.count == 0 || !MayKeep(request_.filter, node)) continue;
      for (size_t d = 0; d < mean.size(); ++d) {
        mean[d] = node.sum[d] / static_cast<float>(node.count);
      }
      for (size_t i = 0; i < queries_.size(); ++i) {
        float value = 0;
        score(queries_[i].values(), &row, 1, mean.size(), &value);
        best_[i].Push(Id(ordinal, std::max(at, first)), value);
      }
      counters_.distances += queries_.size();
    }
    return absl::OkStatus();
  }

  // What is told of a hit beside its score.
  absl::StatusOr<ContextHit> Describe(const Hit& hit) const {
    const ContextRecord& context = contexts_[hit.id >> kPositionBits];
    const uint64_t position = hit.id & (kMaxPosition - 1);
    ContextHit found{.context_id = context.scope.space,
                     .position = position,
                     .first_position = position,
                     .score = hit.score,
                     .indexed = IsSealed(hit)};
    if (request_.resolution != 1) {
      MNEMO_ASSIGN_OR_RETURN(const ContextHead head, reader_.Head(context));
      const uint64_t end = (position / request_.resolution + 1) * request_.resolution;
      found.count = std::min(end, head.next_position) - position;
      MNEMO_ASSIGN_OR_RETURN(found.position, MedoidOf(context, found));
    }
    const uint64_t told = found.position;
    MNEMO_ASSIGN_OR_RETURN(found.level, reader_.LevelOf(context, told));
    MNEMO_RETURN_IF_ERROR(
        reader_.ScanChunks(context, told, told + 1, /*rows=*/false, [&](ChunkPiece& piece) {
          const size_t i = told - piece.columns.first_position;
          found.kind = piece.columns.kind(i);
          found.token_id = piece.columns.id(i);
          found.time_unix_us = piece.columns.times_unix_us[i];
          return false;
        }));
    if (request_.want_payload) {
      MNEMO_ASSIGN_OR_RETURN(found.payload, reader_.PayloadAt(context, told));
    }
    return found;
  }

  // Of a stretch that is consolidated and that may be found as a whole; otherwise
  // its first position.
  absl::StatusOr<uint64_t> MedoidOf(const ContextRecord& context, const ContextHit& found) const {
    const uint64_t first = found.first_position;
    const uint64_t bound = request_.filter.end_position;
    if (found.count != request_.resolution || (bound != 0 && first + found.count > bound)) {
      return first;
    }
    MNEMO_ASSIGN_OR_RETURN(
        const auto summary,
        reader_.summaries().At(context, *SummaryLevel(request_.resolution), first));
    return summary ? summary->medoid_position : first;
  }

  static uint64_t Id(size_t ordinal, uint64_t position) {
    return uint64_t{ordinal} << kPositionBits | position;
  }

  const ContextReader& reader_;
  ContextRangeCache& ranges_;
  const Clock& clock_;
  const Kernels& kernels_;
  const CallContext& call_;
  const ContextSearchRequest& request_;
  const std::vector<ContextRecord>& contexts_;
  std::vector<Query> queries_;
  std::vector<TopK> best_;              // of each query
  std::vector<Candidates> candidates_;  // of each query, all of type stored_
  ElementType searched_ = ElementType::kFloat16;
  // By the id of a range's first token, how many from there on are sealed.
  absl::flat_hash_map<uint64_t, uint32_t> sealed_rows_;
  absl::flat_hash_set<uint64_t> used_runs_;
  SearchCounters counters_;
  ContextSearchAnswer answer_;
};

absl::StatusOr<ContextSearchAnswer> ContextSearcher::Search(
    const CallContext& call, const ContextSearchRequest& request,
    const std::vector<ContextRecord>& contexts) const {
  MNEMO_RETURN_IF_ERROR(Check(request));
  return Run(*this, call, request, contexts).Execute();
}

}  // namespace mnemo
