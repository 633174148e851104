// Columns of any length, cut into the messages of an append.
#include <fmt/format.h>

#include <algorithm>

#include "client/cpp/convert_context.h"
#include "storage/base/status_macros.h"

namespace mnemo::client {
namespace {

// Bounds of the contract.
constexpr size_t kMaxTokens = 8192;
constexpr size_t kMaxPayloadBytes = 1 << 20;
constexpr size_t kMaxEmbeddingBytes = 4 << 20;
// Embeddings of an ordinary message.
constexpr size_t kEmbeddingBytes = 1 << 20;

absl::Status CheckLength(std::string_view column, size_t length, size_t expected,
                         bool required = false) {
  if (length == expected || (length == 0 && !required)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} has {} values; it must have {}", column, length, expected));
}

absl::Status Check(const TokenColumns& columns, size_t row_bytes) {
  const size_t count = columns.count;
  MNEMO_RETURN_IF_ERROR(CheckLength("embeddings (bytes)", columns.embeddings.size(),
                                    count * row_bytes, /*required=*/true));
  MNEMO_RETURN_IF_ERROR(CheckLength("ids", columns.ids.size(), count));
  MNEMO_RETURN_IF_ERROR(CheckLength("kinds", columns.kinds.size(), count));
  MNEMO_RETURN_IF_ERROR(CheckLength("importances", columns.importances.size(), count));
  MNEMO_RETURN_IF_ERROR(CheckLength("times_unix_us", columns.times_unix_us.size(), count));
  const size_t largest = std::min(kMaxTokens, kMaxEmbeddingBytes / row_bytes);
  for (const PayloadView& payload : columns.payloads) {
    if (payload.count < 1 || payload.count > largest || payload.first >= count ||
        payload.count > count - payload.first) {
      return absl::InvalidArgumentError(
          fmt::format("a payload of {} tokens at {}; it must cover 1 to {} of {} tokens",
                      payload.count, payload.first, largest, count));
    }
  }
  return absl::OkStatus();
}

// Where a message that begins at token `begin` and payload `at` ends.
struct Cut {
  size_t token = 0;
  size_t payload = 0;
};
Cut NextCut(const TokenColumns& columns, size_t begin, size_t at, size_t step) {
  Cut cut{.token = std::min(begin + step, columns.count), .payload = at};
  size_t bytes = 0;
  for (; cut.payload < columns.payloads.size(); ++cut.payload) {
    const PayloadView& payload = columns.payloads[cut.payload];
    if (payload.first >= cut.token) break;
    bytes += payload.data.size();
    const bool full = bytes > kMaxPayloadBytes && cut.payload > at;
    if (payload.first + payload.count <= cut.token && !full) continue;
    if (payload.first > begin) {
      cut.token = payload.first;
      break;
    }
    cut.token = payload.first + payload.count;
  }
  return cut;
}

template <typename T>
void SetColumn(std::span<const T> column, size_t begin, size_t count, std::string* out) {
  if (column.empty()) return;
  const auto part = column.subspan(begin, count);
  out->assign(reinterpret_cast<const char*>(part.data()), part.size_bytes());
}

}  // namespace

absl::StatusOr<std::deque<v1::AppendRequest>> ToMessages(const TokenColumns& columns,
                                                         uint32_t dimension,
                                                         uint64_t first_position) {
  const size_t row_bytes = dimension * (columns.embedding_dtype == DType::kF32 ? 4 : 2);
  MNEMO_RETURN_IF_ERROR(Check(columns, row_bytes));
  const size_t step = std::clamp(kEmbeddingBytes / row_bytes, size_t{1}, kMaxTokens);
  std::deque<v1::AppendRequest> messages;
  size_t begin = 0;
  size_t at = 0;
  while (begin < columns.count) {
    const Cut end = NextCut(columns, begin, at, step);
    const size_t count = end.token - begin;
    v1::TokenBatch& batch = *messages.emplace_back().mutable_tokens();
    batch.set_first_position(first_position + begin);
    batch.set_count(static_cast<uint32_t>(count));
    batch.set_kind(static_cast<v1::TokenKind>(columns.kind));
    batch.set_embedding_dtype(static_cast<v1::DType>(columns.embedding_dtype));
    SetColumn(columns.embeddings, begin * row_bytes, count * row_bytes, batch.mutable_embeddings());
    SetColumn(columns.ids, begin, count, batch.mutable_ids());
    SetColumn(columns.kinds, begin, count, batch.mutable_kinds());
    SetColumn(columns.importances, begin, count, batch.mutable_importances());
    SetColumn(columns.times_unix_us, begin, count, batch.mutable_times_unix_us());
    for (; at < end.payload; ++at) {
      v1::RangePayload& payload = *batch.add_payloads();
      payload.set_first_position(first_position + columns.payloads[at].first);
      payload.set_count(columns.payloads[at].count);
      payload.set_data(std::string(columns.payloads[at].data));
    }
    begin = end.token;
  }
  return messages;
}

}  // namespace mnemo::client
