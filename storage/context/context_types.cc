#include "storage/context/context_types.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "storage/base/status_macros.h"
#include "storage/context/embedding.h"

namespace mnemo {
namespace {

absl::Status CheckText(std::string_view field, std::string_view text, size_t min, size_t max) {
  if (text.size() < min || text.size() > max) {
    return absl::InvalidArgumentError(
        fmt::format("{} has {} bytes ({} to {})", field, text.size(), min, max));
  }
  for (const char c : text) {
    if (static_cast<uint8_t>(c) < 0x20 || c == 0x7f) {
      return absl::InvalidArgumentError(fmt::format("{} has a control character", field));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLabels(const Labels& labels) {
  if (labels.size() > kMaxLabels) {
    return absl::InvalidArgumentError(
        fmt::format("labels: {} of them (0 to {})", labels.size(), kMaxLabels));
  }
  for (size_t i = 0; i < labels.size(); ++i) {
    MNEMO_RETURN_IF_ERROR(
        CheckText(fmt::format("labels[{}].key", i), labels[i].first, 1, kMaxLabelKey));
    MNEMO_RETURN_IF_ERROR(
        CheckText(fmt::format("labels[{}].value", i), labels[i].second, 0, kMaxLabelValue));
    if (i > 0 && labels[i - 1].first >= labels[i].first) {
      return absl::InvalidArgumentError(
          fmt::format("labels[{}].key: not in order, or there twice", i));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckColumn(std::string_view field, ByteView column, size_t expected, bool optional) {
  if (column.size() == expected || (optional && column.empty())) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("{} has {} bytes ({}{})", field, column.size(),
                                                optional ? "0 or " : "", expected));
}

absl::Status CheckKinds(const ContextSpec& spec, const TokenColumns& tokens) {
  const uint32_t allowed = spec.kinds == 0 ? (1U << kTokenKinds) - 1 : spec.kinds;
  const size_t count = tokens.kinds.empty() ? 1 : tokens.kinds.size();
  for (size_t i = 0; i < count; ++i) {
    const uint8_t kind = tokens.kinds.empty() ? static_cast<uint8_t>(tokens.kind) : tokens.kinds[i];
    if (kind >= kTokenKinds) {
      return absl::InvalidArgumentError(
          fmt::format("kinds[{}] is {} (0 to {})", i, kind, kTokenKinds - 1));
    }
    if (((allowed >> kind) & 1) == 0) {
      return absl::InvalidArgumentError(
          fmt::format("kinds[{}] is {}, which context '{}' does not take", i, kind, spec.name));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckImportances(ByteView importances) {
  for (size_t i = 0; i < importances.size() / sizeof(float); ++i) {
    const auto value = LoadLittle<float>(importances.data() + i * sizeof(float));
    if (!(value >= 0 && value <= 1)) {
      return absl::InvalidArgumentError(fmt::format("importances[{}] is {} (0 to 1)", i, value));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPayloads(const TokenColumns& tokens) {
  const uint64_t end = tokens.first_position + tokens.count;
  uint64_t free_from = tokens.first_position;
  for (size_t i = 0; i < tokens.payloads.size(); ++i) {
    const PayloadView& payload = tokens.payloads[i];
    if (payload.bytes.empty() || payload.bytes.size() > kMaxPayloadBytes) {
      return absl::InvalidArgumentError(fmt::format("payloads[{}].bytes has {} bytes (1 to {})", i,
                                                    payload.bytes.size(), kMaxPayloadBytes));
    }
    if (payload.first_position < free_from || payload.first_position >= end || payload.count == 0 ||
        payload.count > end - payload.first_position) {
      return absl::InvalidArgumentError(
          fmt::format("payloads[{}] covers {} tokens from {} (within {} to {}, in order, disjoint)",
                      i, payload.count, payload.first_position, free_from, end));
    }
    free_from = payload.first_position + payload.count;
  }
  return absl::OkStatus();
}

// Empty: not stored.
std::string_view StoredName(ElementType type) {
  switch (type) {
    case ElementType::kFloat16:
      return "fp16";
    case ElementType::kInt8:
      return "int8";
    case ElementType::kRotated4:
      return "int4";
    default:
      return "";
  }
}

}  // namespace

uint32_t ContextSpec::fidelity_bits() const {
  switch (stored) {
    case ElementType::kRotated4:
      return 4;
    case ElementType::kInt8:
      return 8;
    default:
      return 16;
  }
}

absl::Status ContextSpec::Validate() const {
  MNEMO_RETURN_IF_ERROR(CheckText("name", name, 1, kMaxContextName));
  if (dimension < 1 || dimension > kMaxContextDimension) {
    return absl::InvalidArgumentError(
        fmt::format("dimension is {} (1 to {})", dimension, kMaxContextDimension));
  }
  if (StoredName(stored).empty()) {
    return absl::InvalidArgumentError("stored: not a type to store (fp16, int8 or int4)");
  }
  if (static_cast<size_t>(metric) >= kMetrics) {
    return absl::InvalidArgumentError("metric: unknown (inner product, cosine or L2)");
  }
  if (kinds >> kTokenKinds != 0) {
    return absl::InvalidArgumentError(
        fmt::format("kinds: bit {} (0 to {})", 31 - std::countl_zero(kinds), kTokenKinds - 1));
  }
  if (durability != Durability::kInterval && durability != Durability::kSync) {
    return absl::InvalidArgumentError("durability: not for contexts (interval or sync)");
  }
  return CheckLabels(labels);
}

std::string FirstDifference(const ContextSpec& present, const ContextSpec& asked) {
  const auto differ = [](std::string_view field, auto a, auto b) {
    return fmt::format("{} is {}, asked for {}", field, a, b);
  };
  if (present.dimension != asked.dimension) {
    return differ("dimension", present.dimension, asked.dimension);
  }
  if (present.stored != asked.stored) {
    return differ("stored", StoredName(present.stored), StoredName(asked.stored));
  }
  constexpr std::string_view kMetricNames[] = {"inner product", "cosine", "L2"};
  if (present.metric != asked.metric) {
    return differ("metric", kMetricNames[static_cast<size_t>(present.metric)],
                  kMetricNames[static_cast<size_t>(asked.metric)]);
  }
  if (present.kinds != asked.kinds) return differ("kinds", present.kinds, asked.kinds);
  if (present.durability != asked.durability) {
    return differ("durability", present.durability == Durability::kSync ? "sync" : "interval",
                  asked.durability == Durability::kSync ? "sync" : "interval");
  }
  for (size_t i = 0; i < std::max(present.labels.size(), asked.labels.size()); ++i) {
    const auto label = [i](const Labels& labels) {
      return i < labels.size() ? fmt::format("'{}={}'", labels[i].first, labels[i].second) : "none";
    };
    if (label(present.labels) != label(asked.labels)) {
      return differ(fmt::format("labels[{}]", i), label(present.labels), label(asked.labels));
    }
  }
  return "";
}

absl::Status ValidateColumns(const ContextSpec& spec, const TokenColumns& tokens) {
  if (tokens.count < 1 || tokens.count > kMaxTokensPerAppend) {
    return absl::InvalidArgumentError(
        fmt::format("count is {} (1 to {})", tokens.count, kMaxTokensPerAppend));
  }
  if (tokens.first_position >= kMaxPosition ||
      tokens.count > kMaxPosition - tokens.first_position) {
    return absl::OutOfRangeError(fmt::format("first_position is {} (0 to 2^48 - count, {})",
                                             tokens.first_position, kMaxPosition - tokens.count));
  }
  if (tokens.embedding_type != ElementType::kFloat32 &&
      tokens.embedding_type != ElementType::kFloat16 &&
      tokens.embedding_type != ElementType::kBfloat16) {
    return absl::InvalidArgumentError("embedding_type: not one to take (fp32, fp16 or bf16)");
  }
  const size_t row = RowBytes(tokens.embedding_type, spec.dimension);
  if (tokens.embeddings.size() != tokens.count * row) {
    return absl::InvalidArgumentError(
        fmt::format("embeddings has {} bytes ({}: {} tokens of dimension {})",
                    tokens.embeddings.size(), tokens.count * row, tokens.count, spec.dimension));
  }
  MNEMO_RETURN_IF_ERROR(CheckColumn("ids", tokens.ids, tokens.count * sizeof(uint32_t), true));
  MNEMO_RETURN_IF_ERROR(CheckColumn("kinds", tokens.kinds, tokens.count, true));
  MNEMO_RETURN_IF_ERROR(
      CheckColumn("importances", tokens.importances, tokens.count * sizeof(float), true));
  MNEMO_RETURN_IF_ERROR(
      CheckColumn("times_unix_us", tokens.times_unix_us, tokens.count * sizeof(int64_t), true));
  MNEMO_RETURN_IF_ERROR(CheckKinds(spec, tokens));
  MNEMO_RETURN_IF_ERROR(CheckImportances(tokens.importances));
  if (const auto bad = FindBadElement(tokens.embedding_type, tokens.embeddings)) {
    return absl::InvalidArgumentError(fmt::format(
        "embeddings[{}][{}] is not finite, or over {} (-{} to {})", *bad / spec.dimension,
        *bad % spec.dimension, kMaxEmbeddingValue, kMaxEmbeddingValue, kMaxEmbeddingValue));
  }
  return CheckPayloads(tokens);
}

}  // namespace mnemo
