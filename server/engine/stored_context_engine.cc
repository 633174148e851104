#include "server/engine/stored_context_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "server/engine/context_sessions.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr uint32_t kDefaultPage = 100;
constexpr uint32_t kLargestPage = 1000;
constexpr uint32_t kDefaultRuns = 64;
constexpr size_t kLinksPerPage = 256;

absl::Status CheckLabels(const Labels& labels) {
  if (labels.size() <= kMaxLabels) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("labels has {} entries; it must have at most {}", labels.size(), kMaxLabels));
}

ContextInfo ToInfo(const ContextRecord& context, const ContextHead& head) {
  return {.id = context.scope.space,
          .spec = context.spec,
          .created_unix_us = context.created_unix_us,
          .tokens = head.next_position,
          .sealed = head.sealed};
}

// Bytes of a chunk as it is stored, overhead not counted.
uint64_t StoredBytes(const ContextSpec& spec, uint64_t tokens) {
  constexpr uint64_t kColumnBytes = 4 + 1 + 4 + 8;
  return tokens * (spec.row_bytes() + kColumnBytes);
}

// What finds the token of this row.
std::string IndexAt(const SegmentRecord& segments, uint64_t row) {
  for (const StoredSegment& segment : segments.segments) {
    if (row < segment.end_row()) return segment.kind == Index(SegmentKind::kIvf) ? "ivf" : "hnsw";
  }
  return "flat";
}

ContextIndexerOptions IndexOptions(const ContextEngineOptions& options) {
  ContextIndexerOptions index = options.index;
  index.build_bytes = std::min(index.build_bytes, options.search_memory_bytes / 2);
  return index;
}

// Joins neighbours that lie alike, into stretches of at least `shortest` tokens.
void AddRun(uint64_t shortest, const ContextRun& run, std::vector<ContextRun>& runs) {
  const auto alike = [](const ContextRun& a, const ContextRun& b) {
    return a.level == b.level && a.index == b.index;
  };
  if (!runs.empty() && (alike(runs.back(), run) || runs.back().count < shortest)) {
    runs.back().count += run.count;
    return;
  }
  runs.push_back(run);
}

}  // namespace

StoredContextEngine::StoredContextEngine(ContextStore& store, const SpaceEngine& spaces,
                                         const Clock& clock, const ContextEngineOptions& options,
                                         const Kernels& kernels)
    : store_(store),
      spaces_(spaces),
      clock_(clock),
      segments_(store),
      ranges_(store.reader(), segments_, store.cache(), clock, kernels, options.search_memory_bytes,
              [this](const ContextRecord& context, uint64_t range) {
                indexer_.NoteDamage(context, range);
              }),
      indexer_(store, segments_, ranges_, clock, kernels, IndexOptions(options)),
      searcher_(store.reader(), ranges_, clock, kernels) {}

absl::StatusOr<ContextRecord> StoredContextEngine::Resolve(const CallContext& call,
                                                           const ContextRef& ref) const {
  if (const auto* id = std::get_if<uint64_t>(&ref)) return store_.ById(call.identity.tenant, *id);
  if (const auto* name = std::get_if<std::string>(&ref)) {
    return store_.ByName(call.identity.tenant, *name);
  }
  return absl::InvalidArgumentError("context is absent; it must be an id or a name");
}

absl::StatusOr<ContextEngine::Created> StoredContextEngine::Create(const CallContext& call,
                                                                   const ContextSpec& spec) {
  MNEMO_ASSIGN_OR_RETURN(const auto made, store_.Create(call.identity.tenant, spec));
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, store_.reader().Head(made.first));
  return Created{.info = ToInfo(made.first, head), .created = made.second};
}

absl::StatusOr<std::unique_ptr<AppendSession>> StoredContextEngine::Append(
    const CallContext& call, const AppendStart& start) {
  MNEMO_ASSIGN_OR_RETURN(const ContextRecord context, Resolve(call, start.context));
  return OpenAppendSession(call, clock_, store_, indexer_, context, start);
}

absl::StatusOr<std::unique_ptr<ContextReadSession>> StoredContextEngine::Read(
    const CallContext& call, const ContextReadRequest& request) {
  MNEMO_ASSIGN_OR_RETURN(const ContextRecord context, Resolve(call, request.context));
  return OpenReadSession(call, clock_, store_.reader(), context, request);
}

absl::StatusOr<RangeSummary> StoredContextEngine::Summarize(const CallContext& call,
                                                            const ContextRef& ref, uint64_t first,
                                                            uint64_t count) {
  MNEMO_ASSIGN_OR_RETURN(const ContextRecord context, Resolve(call, ref));
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, store_.reader().Head(context));
  MNEMO_ASSIGN_OR_RETURN(const uint64_t end, EndOfRange(first, count, head.next_position));
  MNEMO_ASSIGN_OR_RETURN(const TreeNode node, store_.reader().Summarize(context, first, end));
  return ToRangeSummary(node, first, /*vectors=*/true);
}

absl::StatusOr<std::vector<ContextRecord>> StoredContextEngine::Select(
    const CallContext& call, const ContextSearchRequest& request) const {
  std::vector<ContextRecord> contexts;
  MNEMO_RETURN_IF_ERROR(CheckLabels(request.labels));
  if (request.contexts.empty()) {
    MNEMO_ASSIGN_OR_RETURN(
        contexts, store_.List(call.identity.tenant, request.labels, "", kMaxContextsPerSearch + 1));
    std::erase_if(contexts, [&](const ContextRecord& context) {
      return context.spec.dimension != request.dimension;
    });
  } else if (!request.labels.empty()) {
    return absl::InvalidArgumentError("labels go with contexts only where none is named");
  }
  if (std::max(contexts.size(), request.contexts.size()) > kMaxContextsPerSearch) {
    return absl::InvalidArgumentError(fmt::format(
        "more than {} contexts; name fewer, or ask for more labels", kMaxContextsPerSearch));
  }
  std::set<uint64_t> seen;
  for (size_t i = 0; i < request.contexts.size(); ++i) {
    MNEMO_ASSIGN_OR_RETURN(ContextRecord context, Resolve(call, request.contexts[i]));
    if (context.spec.dimension != request.dimension) {
      return absl::InvalidArgumentError(
          fmt::format("dimension is {}; that of contexts[{}], '{}', is {}", request.dimension, i,
                      context.spec.name, context.spec.dimension));
    }
    if (seen.insert(context.scope.space).second) contexts.push_back(std::move(context));
  }
  return contexts;
}

absl::StatusOr<ContextSearchAnswer> StoredContextEngine::Search(
    const CallContext& call, const ContextSearchRequest& request) {
  MNEMO_ASSIGN_OR_RETURN(const auto contexts, Select(call, request));
  return searcher_.Search(call, request, contexts);
}

absl::Status StoredContextEngine::Link(const CallContext& call, const ContextRef& ref,
                                       const BlockLink& link) {
  MNEMO_ASSIGN_OR_RETURN(const ContextRecord context, Resolve(call, ref));
  MNEMO_ASSIGN_OR_RETURN(const auto space, spaces_.Resolve(call, link.space));
  return store_.PutLink(context, {.first_position = link.first_position,
                                  .tokens_per_block = space->spec.tokens_per_block,
                                  .space = space->scope.space,
                                  .keys = link.keys});
}

absl::StatusOr<std::vector<BlockLink>> StoredContextEngine::Links(const CallContext& call,
                                                                  const ContextRef& ref,
                                                                  uint64_t first, uint64_t count,
                                                                  uint64_t& next) {
  next = 0;
  MNEMO_ASSIGN_OR_RETURN(const ContextRecord context, Resolve(call, ref));
  const uint64_t end = count == 0 || count > kMaxPosition - first ? kMaxPosition : first + count;
  MNEMO_ASSIGN_OR_RETURN(const auto links, store_.reader().Links(context, first, end));
  std::vector<BlockLink> page;
  uint64_t last_end = 0;
  for (const ContextLink& link : links) {
    // They come in order of their end, and those of one end go together.
    if (page.size() >= kLinksPerPage && link.end_position() != last_end) {
      next = last_end;
      break;
    }
    last_end = link.end_position();
    page.push_back({.first_position = link.first_position, .space = link.space, .keys = link.keys});
  }
  return page;
}

absl::StatusOr<uint64_t> StoredContextEngine::Seal(const CallContext& call, const ContextRef& ref) {
  MNEMO_ASSIGN_OR_RETURN(const ContextRecord context, Resolve(call, ref));
  return store_.Seal(context);
}

absl::StatusOr<uint64_t> StoredContextEngine::Delete(const CallContext& call, const ContextRef& ref,
                                                     bool wait) {
  const auto context = Resolve(call, ref);
  if (absl::IsNotFound(context.status())) return 0;
  MNEMO_RETURN_IF_ERROR(context.status());
  MNEMO_ASSIGN_OR_RETURN(const uint64_t tokens, store_.Delete(*context));
  indexer_.Forget(context->scope.space);
  ranges_.Forget(context->scope.space);
  for (bool more = wait; more;) {
    MNEMO_RETURN_IF_ERROR(CheckGoesOn(call, clock_));
    MNEMO_ASSIGN_OR_RETURN(more, store_.EraseStep());
  }
  return tokens;
}

absl::StatusOr<std::vector<SegmentRecord>> StoredContextEngine::SegmentsOf(
    const ContextRecord& context, uint64_t tokens) const {
  std::vector<SegmentRecord> ranges;
  for (uint64_t range = 0; range * kRangeTokens < tokens; ++range) {
    auto record = segments_.Read(context, range);
    if (absl::IsDataLoss(record.status()) || absl::IsFailedPrecondition(record.status())) {
      record = SegmentRecord{};
    }
    MNEMO_RETURN_IF_ERROR(record.status());
    ranges.push_back(*std::move(record));
  }
  return ranges;
}

absl::Status StoredContextEngine::DescribePlaces(const CallContext& call,
                                                 const ContextRecord& context, uint32_t max_runs,
                                                 const std::vector<SegmentRecord>& segments,
                                                 ContextDescription& out) const {
  const uint64_t tokens = out.info.tokens;
  const uint64_t shortest = (tokens + max_runs - 1) / max_runs;
  const uint32_t bits = context.spec.fidelity_bits();
  uint64_t archived = 0;
  const uint64_t group = context.spec.group_tokens();
  for (uint64_t first = 0; first < tokens; first += kChunkTokens) {
    if (first % kRangeTokens == 0) {
      MNEMO_RETURN_IF_ERROR(CheckGoesOn(call, clock_));
      MNEMO_ASSIGN_OR_RETURN(archived, store_.reader().ArchivedRuns(context, first / kRangeTokens));
    }
    const uint64_t count = std::min(kChunkTokens, tokens - first);
    const bool moved = ((archived >> (first / kRunTokens % kRunsPerRange)) & 1) != 0;
    uint64_t in_ram = 0;
    for (uint64_t i = 0; i < count; i += group) {
      const bool cached = store_.cache().Contains(context.scope, (first + i) / group);
      if (cached) in_ram += std::min(group, count - i);
    }
    const Level below = moved ? Level::kDisk : Level::kL3;
    for (const auto& [at, part] :
         {std::pair(Level::kL1, in_ram), std::pair(below, count - in_ram)}) {
      out.level_tokens[Index(at)] += part;
      out.level_bytes[Index(at)] += StoredBytes(context.spec, part);
    }
    // In the picture a chunk is in RAM when all of it is.
    const Level level = in_ram == count ? Level::kL1 : below;
    AddRun(shortest,
           {.first_position = first,
            .count = count,
            .level = level,
            .fidelity_bits = bits,
            .index = IndexAt(segments[first / kRangeTokens], first % kRangeTokens)},
           out.runs);
  }
  return absl::OkStatus();
}

absl::StatusOr<ContextDescription> StoredContextEngine::Describe(const CallContext& call,
                                                                 const ContextRef& ref,
                                                                 uint32_t max_runs) {
  if (max_runs > kMaxRuns) {
    return absl::InvalidArgumentError(
        fmt::format("max_runs is {}; it must be at most {}", max_runs, kMaxRuns));
  }
  MNEMO_ASSIGN_OR_RETURN(const ContextRecord context, Resolve(call, ref));
  MNEMO_ASSIGN_OR_RETURN(const ContextHead head, store_.reader().Head(context));
  ContextDescription out{.info = ToInfo(context, head),
                         .writer_id = head.writer,
                         .payload_ranges = head.payloads,
                         .payload_bytes = head.payload_bytes};
  MNEMO_ASSIGN_OR_RETURN(const auto links, store_.reader().Links(context, 0, kMaxPosition));
  out.links = links.size();
  const ContextRangeCache::Held held = ranges_.held(context.scope.space);
  out.segments = held.segments;
  out.index_bytes = held.bytes;
  MNEMO_ASSIGN_OR_RETURN(out.summaries, store_.reader().summaries().Counts(context));
  MNEMO_ASSIGN_OR_RETURN(const auto segments, SegmentsOf(context, head.next_position));
  for (const SegmentRecord& record : segments) out.indexed_tokens += record.rows();
  MNEMO_RETURN_IF_ERROR(
      DescribePlaces(call, context, max_runs == 0 ? kDefaultRuns : max_runs, segments, out));
  return out;
}

absl::StatusOr<std::vector<ContextInfo>> StoredContextEngine::List(const CallContext& call,
                                                                   const Labels& labels,
                                                                   uint32_t page_size,
                                                                   const std::string& page_token,
                                                                   std::string& next) {
  if (page_size > kLargestPage) {
    return absl::InvalidArgumentError(
        fmt::format("page_size is {}; it must be at most {}", page_size, kLargestPage));
  }
  MNEMO_RETURN_IF_ERROR(CheckLabels(labels));
  if (page_size == 0) page_size = kDefaultPage;
  MNEMO_ASSIGN_OR_RETURN(
      auto contexts, store_.List(call.identity.tenant, labels, page_token, page_size + size_t{1}));
  next.clear();
  if (contexts.size() > page_size) {
    contexts.pop_back();
    next = contexts.back().spec.name;
  }
  std::vector<ContextInfo> page;
  page.reserve(contexts.size());
  for (const ContextRecord& context : contexts) {
    const auto head = store_.reader().Head(context);
    if (absl::IsNotFound(head.status())) continue;  // deleted meanwhile
    MNEMO_RETURN_IF_ERROR(head.status());
    page.push_back(ToInfo(context, *head));
  }
  return page;
}

}  // namespace mnemo
