#include "storage/context/summary_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "storage/base/status_macros.h"
#include "storage/context/context_keys.h"
#include "storage/context/sealed_value.h"

namespace mnemo {
namespace {

constexpr uint8_t kVersion = 1;
// With what was left out, where anything was.
constexpr uint8_t kVersionWithGaps = 2;

absl::Status Located(const ContextRecord& context, uint64_t first, const absl::Status& status) {
  return absl::DataLossError(fmt::format("context '{}', summary from {}: {}", context.spec.name,
                                         first, std::string(status.message())));
}

}  // namespace

std::string EncodeConsolidation(const Consolidation& progress, uint64_t seed) {
  const bool gaps = progress.left_out != std::array<uint64_t, kSummaryLevels>{};
  std::string value(1, static_cast<char>(gaps ? kVersionWithGaps : kVersion));
  AppendLittle<uint64_t>(value, progress.tokens);
  if (gaps) {
    for (const uint64_t count : progress.left_out) AppendLittle<uint64_t>(value, count);
  }
  SealValue(value, seed);
  return value;
}

absl::StatusOr<Consolidation> SummaryReader::Progress(const ContextRecord& context) const {
  const StoredKey key = ConsolidatedKey(context.scope);
  const absl::StatusOr<std::string> value = stores_.Of(context).Get(key);
  if (absl::IsNotFound(value.status())) return Consolidation{};
  if (!value.ok()) return value.status();
  const bool gaps = !value->empty() && value->front() == static_cast<char>(kVersionWithGaps);
  MNEMO_ASSIGN_OR_RETURN(
      ByteReader reader,
      OpenValue(AsBytes(*value), SeedOf(key), gaps ? kVersionWithGaps : kVersion, "consolidation"));
  Consolidation progress{.tokens = reader.Little<uint64_t>()};
  bool possible = progress.tokens % kChunkTokens == 0;
  for (uint8_t level = 0; gaps && level < kSummaryLevels; ++level) {
    progress.left_out[level] = reader.Little<uint64_t>();
    possible = possible && progress.left_out[level] <= progress.tokens / TreeNodeTokens(level);
  }
  if (reader.ok() && reader.remaining() == 0 && possible) return progress;
  return absl::DataLossError("consolidation: a field out of range");
}

absl::StatusOr<uint64_t> SummaryReader::ConsolidatedTokens(const ContextRecord& context) const {
  MNEMO_ASSIGN_OR_RETURN(const Consolidation progress, Progress(context));
  return progress.tokens;
}

absl::StatusOr<std::array<uint64_t, kSummaryLevels>> SummaryReader::Counts(
    const ContextRecord& context) const {
  MNEMO_ASSIGN_OR_RETURN(const Consolidation progress, Progress(context));
  std::array<uint64_t, kSummaryLevels> counts{};
  for (uint8_t level = 0; level < kSummaryLevels; ++level) {
    counts[level] = progress.tokens / TreeNodeTokens(level) - progress.left_out[level];
  }
  return counts;
}

absl::StatusOr<std::optional<ContextSummary>> SummaryReader::At(const ContextRecord& context,
                                                                uint8_t level,
                                                                uint64_t first) const {
  const uint64_t tokens = TreeNodeTokens(level);
  if (level >= kSummaryLevels || first % tokens != 0) return std::nullopt;
  const StoredKey key = SummaryKey(context.scope, level, first / tokens);
  const absl::StatusOr<std::string> value = stores_.Of(context).Get(key);
  if (absl::IsNotFound(value.status())) return std::nullopt;
  if (!value.ok()) return value.status();
  absl::StatusOr<ContextSummary> summary =
      DecodeSummary(context.spec, AsBytes(*value), SeedOf(key));
  if (!summary.ok()) return Located(context, first, summary.status());
  return *std::move(summary);
}

absl::Status SummaryReader::Scan(const ContextRecord& context, uint8_t level, uint64_t first,
                                 uint64_t end,
                                 const std::function<bool(ContextSummary&)>& visit) const {
  MNEMO_ASSIGN_OR_RETURN(const uint64_t done, ConsolidatedTokens(context));
  const uint64_t tokens = TreeNodeTokens(level);
  end = std::min(end, done / tokens * tokens);
  absl::Status damage;
  bool stopped = false;
  const auto offer = [&](const StoredKey& key, std::string_view value) {
    absl::StatusOr<ContextSummary> summary =
        DecodeSummary(context.spec, AsBytes(value), SeedOf(key));
    if (!summary.ok()) {
      damage =
          Located(context, LoadBig<uint64_t>(key.suffix().data() + 1) * tokens, summary.status());
    }
    stopped = !summary.ok() || !visit(*summary);
    return !stopped;
  };
  for (uint64_t next = first / tokens * tokens; next < end && !stopped;) {
    // To the end of the range: another may lie in the same shard.
    const uint64_t range_end = (next / kRangeTokens + 1) * kRangeTokens;
    const StoredKey begin = SummaryKey(context.scope, level, next / tokens);
    const uint64_t behind = (std::min(end, range_end) + tokens - 1) / tokens;
    const StoredKey bound(begin.shard(), KeyKind::kSummary, context.scope,
                          SummaryKey(context.scope, level, behind).suffix());
    MNEMO_RETURN_IF_ERROR(stores_.Of(context).Scan(begin.bytes(), bound.bytes(), offer));
    MNEMO_RETURN_IF_ERROR(damage);
    next = range_end;
  }
  return absl::OkStatus();
}

}  // namespace mnemo
