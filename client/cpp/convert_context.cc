#include "client/cpp/convert_context.h"

#include <cstring>

#include "client/cpp/convert.h"

namespace mnemo::client {
namespace {

Bytes AsBytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

template <typename T>
void SetColumn(std::span<const T> column, size_t begin, size_t count, std::string* out) {
  if (column.empty()) return;
  const auto part = column.subspan(begin, count);
  out->assign(reinterpret_cast<const char*>(part.data()), part.size_bytes());
}

std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

SearchHit FromMessage(const v1::SearchHit& message) {
  SearchHit hit{.context_id = message.context_id(),
                .position = message.position(),
                .first_position = message.first_position(),
                .count = message.count(),
                .score = message.score(),
                .kind = static_cast<TokenKind>(message.kind()),
                .token_id = message.token_id(),
                .time_unix_us = message.time_unix_us(),
                .level = ToLevel(message.level()),
                .indexed = message.indexed()};
  if (message.has_payload()) {
    hit.payload = RangePayload{.first_position = message.payload().first_position(),
                               .count = message.payload().count(),
                               .data = message.payload().data()};
  }
  return hit;
}

}  // namespace

v1::ContextRef ToMessage(const ContextRef& ref) {
  v1::ContextRef message;
  if (const auto* id = std::get_if<uint64_t>(&ref.ref)) {
    message.set_id(*id);
  } else {
    message.set_name(std::get<std::string>(ref.ref));
  }
  return message;
}

void AddLabels(const Labels& labels, google::protobuf::RepeatedPtrField<v1::Label>& out) {
  for (const auto& [key, value] : labels) {
    v1::Label& label = *out.Add();
    label.set_key(key);
    label.set_value(value);
  }
}

v1::Context ToMessage(const Context& context) {
  v1::Context message;
  message.set_name(context.name);
  message.set_dimension(context.dimension);
  message.set_stored_dtype(static_cast<v1::DType>(context.stored_dtype));
  message.set_metric(static_cast<v1::Metric>(context.metric));
  for (const TokenKind kind : context.kinds) message.add_kinds(static_cast<v1::TokenKind>(kind));
  AddLabels(context.labels, *message.mutable_labels());
  message.set_durability(static_cast<v1::Durability>(context.durability));
  return message;
}

v1::ReadContextRequest ToMessage(const ReadRequest& request) {
  v1::ReadContextRequest message;
  *message.mutable_context() = ToMessage(request.context);
  message.set_first_position(request.first_position);
  message.set_count(request.count);
  message.set_without_embeddings(request.without_embeddings);
  message.set_embedding_dtype(static_cast<v1::DType>(request.embedding_dtype));
  message.set_with_payloads(request.with_payloads);
  return message;
}

v1::SearchRequest ToMessage(const SearchRequest& request) {
  v1::SearchRequest message;
  for (const ContextRef& ref : request.contexts) *message.add_contexts() = ToMessage(ref);
  AddLabels(request.labels, *message.mutable_labels());
  message.set_dimension(request.dimension);
  SetColumn(request.queries, 0, request.queries.size(), message.mutable_queries());
  message.set_k(request.k);
  v1::TokenFilter& filter = *message.mutable_filter();
  for (const TokenKind kind : request.filter.kinds) {
    filter.add_kinds(static_cast<v1::TokenKind>(kind));
  }
  filter.set_first_position(request.filter.first_position);
  filter.set_end_position(request.filter.end_position);
  if (request.filter.from_unix_us) filter.set_from_unix_us(*request.filter.from_unix_us);
  if (request.filter.until_unix_us) filter.set_until_unix_us(*request.filter.until_unix_us);
  if (request.filter.has_payload) filter.set_has_payload(*request.filter.has_payload);
  message.set_resolution(request.resolution);
  message.set_ef_search(request.ef_search);
  message.set_nprobe(request.nprobe);
  message.set_target_recall(request.target_recall);
  message.set_with_payloads(request.with_payloads);
  return message;
}

v1::BlockLink ToMessage(const BlockLink& link) {
  v1::BlockLink message;
  message.set_first_position(link.first_position);
  SetSpace(link.space, *message.mutable_space());
  for (const std::string& key : link.keys) message.add_keys(key);
  return message;
}

Context FromMessage(const v1::Context& message) {
  Context context{.id = message.id(),
                  .name = message.name(),
                  .dimension = message.dimension(),
                  .stored_dtype = static_cast<DType>(message.stored_dtype()),
                  .metric = static_cast<Metric>(message.metric()),
                  .durability = static_cast<Durability>(message.durability()),
                  .created_unix_us = message.created_unix_us(),
                  .tokens = message.tokens(),
                  .sealed = message.sealed()};
  for (const int kind : message.kinds()) context.kinds.push_back(static_cast<TokenKind>(kind));
  for (const v1::Label& label : message.labels()) {
    context.labels.emplace_back(label.key(), label.value());
  }
  return context;
}

TokenRun FromMessage(const v1::StoredTokens& message) {
  const v1::TokenBatch& batch = message.tokens();
  TokenRun run{.first_position = batch.first_position(),
               .count = batch.count(),
               .embedding_dtype = static_cast<DType>(batch.embedding_dtype()),
               .embeddings = AsBytes(batch.embeddings()),
               .ids = AsBytes(batch.ids()),
               .kinds = AsBytes(batch.kinds()),
               .importances = AsBytes(batch.importances()),
               .times_unix_us = AsBytes(batch.times_unix_us()),
               .level = ToLevel(message.level()),
               .bits_per_value = message.bits_per_value()};
  for (const v1::RangePayload& payload : batch.payloads()) {
    run.payloads.push_back(
        {.first = payload.first_position(), .count = payload.count(), .data = payload.data()});
  }
  return run;
}

RangeSummary FromMessage(const v1::RangeSummary& message) {
  RangeSummary summary{.first_position = message.first_position(),
                       .count = message.count(),
                       .mean = Floats(message.mean()),
                       .minimum = Floats(message.minimum()),
                       .maximum = Floats(message.maximum()),
                       .mean_square_norm = message.mean_square_norm(),
                       .largest_importance = message.largest_importance(),
                       .top_ids = {message.top_ids().begin(), message.top_ids().end()},
                       .level = ToLevel(message.level())};
  if (message.has_medoid_position()) summary.medoid_position = message.medoid_position();
  return summary;
}

SearchResult FromMessage(const v1::SearchResponse& message) {
  SearchResult result;
  for (const v1::SearchHits& hits : message.results()) {
    auto& of_query = result.hits.emplace_back();
    for (const v1::SearchHit& hit : hits.hits()) of_query.push_back(FromMessage(hit));
  }
  const v1::SearchWork& work = message.work();
  result.work = {.contexts = work.contexts(),
                 .segments = work.segments(),
                 .distances = work.distances(),
                 .reranked = work.reranked(),
                 .unindexed_tokens = work.unindexed_tokens(),
                 .engine_us = work.engine_us()};
  return result;
}

BlockLink FromMessage(const v1::BlockLink& message) {
  BlockLink link{.first_position = message.first_position(),
                 .space = message.space().id(),
                 .keys = {message.keys().begin(), message.keys().end()}};
  if (message.space().ref_case() == v1::SpaceRef::kName) link.space = message.space().name();
  return link;
}

ContextDescription FromMessage(const v1::DescribeContextResponse& message) {
  ContextDescription description{.context = FromMessage(message.context()),
                                 .writer_id = message.writer_id(),
                                 .payloads = message.payloads(),
                                 .payload_bytes = message.payload_bytes(),
                                 .links = message.links(),
                                 .indexed_tokens = message.indexed_tokens(),
                                 .segments = message.segments(),
                                 .index_bytes = message.index_bytes(),
                                 .summaries = message.summaries()};
  for (const v1::LevelShare& share : message.levels()) {
    description.levels.push_back(
        {.level = ToLevel(share.level()), .tokens = share.tokens(), .bytes = share.bytes()});
  }
  for (const v1::SummaryShare& share : message.summary_shares()) {
    description.summary_shares.push_back(
        {.resolution = share.resolution(), .count = share.count()});
  }
  for (const v1::ContextRun& run : message.runs()) {
    description.runs.push_back({.first_position = run.first_position(),
                                .count = run.count(),
                                .level = ToLevel(run.level()),
                                .bits_per_value = run.bits_per_value(),
                                .index = run.index()});
  }
  return description;
}

}  // namespace mnemo::client
