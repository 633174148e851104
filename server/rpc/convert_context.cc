#include "server/rpc/convert_context.h"

#include <fmt/format.h>
#include <grpcpp/support/slice.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "server/rpc/convert.h"
#include "server/rpc/wire.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr int kLastKind = 6;
constexpr int kLastMetric = 3;

absl::Status NotOneOf(std::string_view field, int value, std::string_view allowed) {
  return absl::InvalidArgumentError(fmt::format("{} is {}; it must be {}", field, value, allowed));
}

absl::StatusOr<TokenKind> KindFrom(std::string_view field, int value) {
  if (value < 0 || value > kLastKind) {
    return NotOneOf(field, value, fmt::format("a token kind, 0 to {}", kLastKind));
  }
  return static_cast<TokenKind>(value);
}

absl::StatusOr<uint32_t> KindsFrom(std::string_view field,
                                   const google::protobuf::RepeatedField<int>& kinds) {
  uint32_t bits = 0;
  for (const int value : kinds) {
    MNEMO_ASSIGN_OR_RETURN(const TokenKind kind, KindFrom(field, value));
    bits |= 1U << static_cast<uint32_t>(kind);
  }
  return bits;
}

absl::StatusOr<Metric> MetricFrom(int metric) {
  switch (metric) {
    case v1::METRIC_UNSPECIFIED:
    case v1::METRIC_COSINE:
      return Metric::kCosine;
    case v1::METRIC_INNER_PRODUCT:
      return Metric::kInnerProduct;
    case v1::METRIC_L2:
      return Metric::kL2;
    default:
      return NotOneOf("metric", metric, fmt::format("0 to {}", kLastMetric));
  }
}

v1::Metric ToProto(Metric metric) {
  switch (metric) {
    case Metric::kCosine:
      return v1::METRIC_COSINE;
    case Metric::kInnerProduct:
      return v1::METRIC_INNER_PRODUCT;
    case Metric::kL2:
      return v1::METRIC_L2;
  }
  return v1::METRIC_UNSPECIFIED;
}

// Floats on the wire: `otherwise` where the field is absent.
absl::StatusOr<ElementType> FloatTypeFrom(std::string_view field, int dtype, bool bf16) {
  switch (dtype) {
    case v1::DTYPE_UNSPECIFIED:
    case v1::DTYPE_F32:
      return ElementType::kFloat32;
    case v1::DTYPE_F16:
      return ElementType::kFloat16;
    case v1::DTYPE_BF16:
      if (bf16) return ElementType::kBfloat16;
      [[fallthrough]];
    default:
      return NotOneOf(field, dtype, bf16 ? "F32, F16 or BF16" : "F32 or F16");
  }
}

absl::StatusOr<ElementType> StoredTypeFrom(int dtype) {
  switch (dtype) {
    case v1::DTYPE_UNSPECIFIED:
    case v1::DTYPE_F16:
      return ElementType::kFloat16;
    case v1::DTYPE_INT8:
      return ElementType::kInt8;
    case v1::DTYPE_INT4:
      return ElementType::kRotated4;
    default:
      return NotOneOf("stored_dtype", dtype, "F16, INT8 or INT4");
  }
}

v1::DType ToProto(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return v1::DTYPE_F32;
    case ElementType::kFloat16:
      return v1::DTYPE_F16;
    case ElementType::kBfloat16:
      return v1::DTYPE_BF16;
    case ElementType::kInt8:
      return v1::DTYPE_INT8;
    case ElementType::kRotated4:
      return v1::DTYPE_INT4;
  }
  return v1::DTYPE_UNSPECIFIED;
}

absl::StatusOr<std::optional<Durability>> DurabilityFrom(int durability) {
  switch (durability) {
    case v1::DURABILITY_UNSPECIFIED:
      return std::optional<Durability>();
    case v1::DURABILITY_INTERVAL:
    case v1::DURABILITY_SYNC:
      return std::optional<Durability>(static_cast<Durability>(durability));
    default:
      return NotOneOf("durability", durability, "INTERVAL or SYNC");
  }
}

// A column is absent, or has `width` bytes for each of `count` tokens.
absl::StatusOr<ByteView> ColumnFrom(std::string_view field, const std::string& bytes,
                                    uint64_t count, uint64_t width) {
  if (bytes.empty() || bytes.size() == count * width) return AsBytes(bytes);
  return absl::InvalidArgumentError(
      fmt::format("tokens.{} is {} bytes long; it must be {} for {} tokens", field, bytes.size(),
                  count * width, count));
}

void SetColumn(ByteView column, std::string* out) { out->assign(AsText(column)); }

void SetFloats(const std::vector<float>& values, std::string* out) {
  out->assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

void ToProto(const Labels& labels, google::protobuf::RepeatedPtrField<v1::Label>* out) {
  for (const auto& [key, value] : labels) {
    v1::Label* label = out->Add();
    label->set_key(key);
    label->set_value(value);
  }
}

// Everything of a step of tokens but its embeddings.
void ToProto(const TokenColumns& columns, v1::TokenBatch* out) {
  out->set_first_position(columns.first_position);
  out->set_count(columns.count);
  SetColumn(columns.ids, out->mutable_ids());
  SetColumn(columns.kinds, out->mutable_kinds());
  out->set_kind(static_cast<v1::TokenKind>(columns.kind));
  out->set_embedding_dtype(ToProto(columns.embedding_type));
  SetColumn(columns.importances, out->mutable_importances());
  SetColumn(columns.times_unix_us, out->mutable_times_unix_us());
  for (const PayloadView& payload : columns.payloads) {
    v1::RangePayload* range = out->add_payloads();
    range->set_first_position(payload.first_position);
    range->set_count(payload.count);
    range->set_data(std::string(payload.bytes));
  }
}

}  // namespace

ContextRef FromProto(const v1::ContextRef& ref) {
  switch (ref.ref_case()) {
    case v1::ContextRef::kId:
      return ref.id();
    case v1::ContextRef::kName:
      return ref.name();
    case v1::ContextRef::REF_NOT_SET:
      break;
  }
  return std::monostate();
}

Labels FromProto(const google::protobuf::RepeatedPtrField<v1::Label>& labels) {
  Labels out;
  out.reserve(labels.size());
  for (const v1::Label& label : labels) out.emplace_back(label.key(), label.value());
  // A caller may give them in any order; the engine has them by key.
  std::sort(out.begin(), out.end());
  return out;
}

absl::StatusOr<ContextSpec> FromProto(const v1::Context& context) {
  ContextSpec spec{.name = context.name(),
                   .dimension = context.dimension(),
                   .labels = FromProto(context.labels())};
  MNEMO_ASSIGN_OR_RETURN(spec.stored, StoredTypeFrom(context.stored_dtype()));
  MNEMO_ASSIGN_OR_RETURN(spec.metric, MetricFrom(context.metric()));
  MNEMO_ASSIGN_OR_RETURN(spec.kinds, KindsFrom("kinds", context.kinds()));
  MNEMO_ASSIGN_OR_RETURN(const auto durability, DurabilityFrom(context.durability()));
  if (durability) spec.durability = *durability;
  return spec;
}

absl::StatusOr<AppendStart> FromProto(const v1::AppendStart& start) {
  AppendStart out{.context = FromProto(start.context()), .writer_id = start.writer_id()};
  MNEMO_ASSIGN_OR_RETURN(out.durability, DurabilityFrom(start.durability()));
  return out;
}

absl::StatusOr<TokenColumns> FromProto(const v1::TokenBatch& batch, uint32_t dimension) {
  const uint64_t count = batch.count();
  if (count < 1 || count > kMaxTokensPerAppend) {
    return absl::InvalidArgumentError(
        fmt::format("tokens.count is {}; it must be 1 to {}", count, kMaxTokensPerAppend));
  }
  TokenColumns columns{.first_position = batch.first_position(), .count = batch.count()};
  MNEMO_ASSIGN_OR_RETURN(columns.kind, KindFrom("tokens.kind", batch.kind()));
  MNEMO_ASSIGN_OR_RETURN(
      columns.embedding_type,
      FloatTypeFrom("tokens.embedding_dtype", batch.embedding_dtype(), /*bf16=*/true));
  const uint64_t row = RowBytes(columns.embedding_type, dimension);
  MNEMO_ASSIGN_OR_RETURN(columns.ids, ColumnFrom("ids", batch.ids(), count, 4));
  MNEMO_ASSIGN_OR_RETURN(columns.kinds, ColumnFrom("kinds", batch.kinds(), count, 1));
  MNEMO_ASSIGN_OR_RETURN(columns.embeddings,
                         ColumnFrom("embeddings", batch.embeddings(), count, row));
  if (columns.embeddings.empty()) {
    return absl::InvalidArgumentError("tokens.embeddings is absent; every token has one");
  }
  MNEMO_ASSIGN_OR_RETURN(columns.importances,
                         ColumnFrom("importances", batch.importances(), count, 4));
  MNEMO_ASSIGN_OR_RETURN(columns.times_unix_us,
                         ColumnFrom("times_unix_us", batch.times_unix_us(), count, 8));
  columns.payloads.reserve(batch.payloads_size());
  for (const v1::RangePayload& payload : batch.payloads()) {
    columns.payloads.push_back({.first_position = payload.first_position(),
                                .count = payload.count(),
                                .bytes = payload.data()});
  }
  return columns;
}

absl::StatusOr<ContextReadRequest> FromProto(const v1::ReadContextRequest& request) {
  ContextReadRequest out{.context = FromProto(request.context()),
                         .first_position = request.first_position(),
                         .count = request.count(),
                         .resolution = request.resolution() == 0 ? 1 : request.resolution(),
                         .want_embeddings = !request.without_embeddings(),
                         .want_payloads = request.with_payloads()};
  MNEMO_ASSIGN_OR_RETURN(out.embedding_type,
                         FloatTypeFrom("embedding_dtype", request.embedding_dtype(),
                                       /*bf16=*/false));
  return out;
}

absl::StatusOr<ContextSearchRequest> FromProto(const v1::SearchRequest& request,
                                               std::vector<float>& queries) {
  const uint64_t row = uint64_t{request.dimension()} * sizeof(float);
  const std::string& bytes = request.queries();
  if (row == 0 || bytes.empty() || bytes.size() % row != 0 ||
      bytes.size() / row > kMaxQueriesPerSearch) {
    return absl::InvalidArgumentError(fmt::format(
        "queries is {} bytes long; it must be 1 to {} rows of {} bytes, 4 for each dimension",
        bytes.size(), kMaxQueriesPerSearch, row));
  }
  queries.resize(bytes.size() / sizeof(float));
  std::memcpy(queries.data(), bytes.data(), bytes.size());
  ContextSearchRequest out{.labels = FromProto(request.labels()),
                           .dimension = request.dimension(),
                           .queries = queries,
                           .resolution = request.resolution() == 0 ? 1 : request.resolution(),
                           .ef = request.ef_search(),
                           .nprobe = request.nprobe(),
                           .want_payload = request.with_payloads()};
  for (const v1::ContextRef& ref : request.contexts()) out.contexts.push_back(FromProto(ref));
  if (request.k() != 0) out.k = request.k();
  if (request.target_recall() != 0) out.target_recall = request.target_recall();
  const v1::TokenFilter& filter = request.filter();
  MNEMO_ASSIGN_OR_RETURN(out.filter.kinds, KindsFrom("filter.kinds", filter.kinds()));
  out.filter.first_position = filter.first_position();
  out.filter.end_position = filter.end_position();
  if (filter.has_from_unix_us()) out.filter.from_unix_us = filter.from_unix_us();
  if (filter.has_until_unix_us()) out.filter.until_unix_us = filter.until_unix_us();
  if (filter.has_has_payload()) out.filter.has_payload = filter.has_payload();
  return out;
}

BlockLink FromProto(const v1::BlockLink& link) {
  return {.first_position = link.first_position(),
          .space = FromProto(link.space()),
          .keys = {link.keys().begin(), link.keys().end()}};
}

void ToProto(const ContextInfo& info, v1::Context* out) {
  out->set_id(info.id);
  out->set_name(info.spec.name);
  out->set_dimension(info.spec.dimension);
  out->set_stored_dtype(ToProto(info.spec.stored));
  out->set_metric(ToProto(info.spec.metric));
  for (int kind = 0; kind <= kLastKind; ++kind) {
    if ((info.spec.kinds >> kind) & 1) out->add_kinds(static_cast<v1::TokenKind>(kind));
  }
  ToProto(info.spec.labels, out->mutable_labels());
  out->set_durability(static_cast<v1::Durability>(info.spec.durability));
  out->set_created_unix_us(info.created_unix_us);
  out->set_tokens(info.tokens);
  out->set_sealed(info.sealed);
}

void ToProto(const RangeSummary& summary, v1::RangeSummary* out) {
  out->set_first_position(summary.first_position);
  out->set_count(summary.count);
  SetFloats(summary.mean, out->mutable_mean());
  SetFloats(summary.min, out->mutable_minimum());
  SetFloats(summary.max, out->mutable_maximum());
  out->set_mean_square_norm(summary.mean_square_norm);
  out->set_largest_importance(summary.largest_importance);
  if (summary.medoid) out->set_medoid_position(*summary.medoid);
  for (const uint32_t id : summary.top_ids) out->add_top_ids(id);
  out->set_level(ToProto(summary.level));
}

void ToProto(const ContextHit& hit, v1::SearchHit* out) {
  out->set_context_id(hit.context_id);
  out->set_position(hit.position);
  out->set_first_position(hit.first_position);
  out->set_count(hit.count);
  out->set_score(hit.score);
  out->set_kind(static_cast<v1::TokenKind>(hit.kind));
  out->set_token_id(hit.token_id);
  out->set_time_unix_us(hit.time_unix_us);
  out->set_level(ToProto(hit.level));
  out->set_indexed(hit.indexed);
  if (!hit.payload) return;
  out->mutable_payload()->set_first_position(hit.payload->first_position);
  out->mutable_payload()->set_count(hit.payload->count);
  out->mutable_payload()->set_data(hit.payload->bytes);
}

void ToProto(const ContextSearchAnswer& answer, v1::SearchResponse* out) {
  for (const auto& hits : answer.hits) {
    v1::SearchHits* result = out->add_results();
    for (const ContextHit& hit : hits) ToProto(hit, result->add_hits());
  }
  v1::SearchWork* work = out->mutable_work();
  work->set_contexts(answer.contexts);
  work->set_segments(answer.segments);
  work->set_distances(answer.distances);
  work->set_reranked(answer.reranked);
  work->set_unindexed_tokens(answer.unindexed);
}

void ToProto(const BlockLink& link, v1::BlockLink* out) {
  out->set_first_position(link.first_position);
  if (const auto* id = std::get_if<uint64_t>(&link.space)) out->mutable_space()->set_id(*id);
  if (const auto* name = std::get_if<std::string>(&link.space)) {
    out->mutable_space()->set_name(*name);
  }
  for (const std::string& key : link.keys) out->add_keys(key);
}

void ToProto(const ContextDescription& description, v1::DescribeContextResponse* out) {
  ToProto(description.info, out->mutable_context());
  out->set_writer_id(description.writer_id);
  out->set_payloads(description.payload_ranges);
  out->set_payload_bytes(description.payload_bytes);
  out->set_links(description.links);
  for (size_t i = 0; i < kLevelCount; ++i) {
    if (description.level_tokens[i] == 0 && description.level_bytes[i] == 0) continue;
    v1::LevelShare* share = out->add_levels();
    share->set_level(ToProto(static_cast<Level>(i)));
    share->set_tokens(description.level_tokens[i]);
    share->set_bytes(description.level_bytes[i]);
  }
  out->set_indexed_tokens(description.indexed_tokens);
  out->set_segments(description.segments);
  out->set_index_bytes(description.index_bytes);
  uint64_t summaries = 0;
  for (uint8_t level = 0; level < kSummaryLevels; ++level) {
    const uint64_t count = description.summaries[level];
    summaries += count;
    if (count == 0) continue;
    v1::SummaryShare* share = out->add_summary_shares();
    share->set_resolution(static_cast<uint32_t>(TreeNodeTokens(level)));
    share->set_count(count);
  }
  out->set_summaries(summaries);
  for (const ContextRun& run : description.runs) {
    v1::ContextRun* to = out->add_runs();
    to->set_first_position(run.first_position);
    to->set_count(run.count);
    to->set_level(ToProto(run.level));
    to->set_bits_per_value(run.fidelity_bits);
    to->set_index(run.index);
  }
}

grpc::ByteBuffer EncodeReadStep(const ContextReadStep& step) {
  v1::ReadContextResponse response;
  if (step.tokens.count == 0) {
    for (const RangeSummary& summary : step.summaries) {
      ToProto(summary, response.mutable_summaries()->add_summaries());
    }
    return EncodeMessage(response);
  }
  v1::TokenBatch batch;
  ToProto(step.tokens, &batch);
  v1::StoredTokens stored;
  stored.set_level(ToProto(step.level));
  stored.set_bits_per_value(step.fidelity_bits);
  return EncodeStoredTokens(stored, batch, step.tokens.embeddings, step.owner);
}

}  // namespace mnemo
