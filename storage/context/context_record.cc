#include "storage/context/context_record.h"

#include <fmt/format.h>

#include "storage/base/status_macros.h"
#include "storage/context/sealed_value.h"

namespace mnemo {
namespace {

constexpr uint8_t kVersion = 1;

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(fmt::format("{}: a field out of range", what));
}

}  // namespace

std::string EncodeRecord(const ContextRecord& record, uint64_t seed) {
  const ContextSpec& spec = record.spec;
  std::string out(1, static_cast<char>(kVersion));
  AppendLittle<uint16_t>(out, static_cast<uint16_t>(spec.dimension));
  out.push_back(static_cast<char>(spec.stored));
  out.push_back(static_cast<char>(spec.metric));
  out.push_back(static_cast<char>(spec.durability));
  AppendLittle<uint32_t>(out, spec.kinds);
  AppendLittle<int64_t>(out, record.created_unix_us);
  AppendShort(out, spec.name);
  out.push_back(static_cast<char>(spec.labels.size()));
  for (const auto& [key, value] : spec.labels) {
    AppendShort(out, key);
    AppendShort(out, value);
  }
  SealValue(out, seed);
  return out;
}

absl::StatusOr<ContextRecord> DecodeRecord(KeyScope scope, ByteView value, uint64_t seed) {
  MNEMO_ASSIGN_OR_RETURN(ByteReader reader, OpenValue(value, seed, kVersion, "context"));
  ContextRecord record{.scope = scope};
  record.spec.dimension = reader.Little<uint16_t>();
  record.spec.stored = static_cast<ElementType>(reader.Little<uint8_t>());
  record.spec.metric = static_cast<Metric>(reader.Little<uint8_t>());
  record.spec.durability = static_cast<Durability>(reader.Little<uint8_t>());
  record.spec.kinds = reader.Little<uint32_t>();
  record.created_unix_us = reader.Little<int64_t>();
  record.spec.name = AsText(reader.TakeShort());
  const auto labels = reader.Little<uint8_t>();
  for (uint8_t i = 0; i < labels && reader.ok(); ++i) {
    std::string key(AsText(reader.TakeShort()));
    record.spec.labels.emplace_back(std::move(key), AsText(reader.TakeShort()));
  }
  if (!reader.ok() || reader.remaining() != 0 || !record.spec.Validate().ok()) {
    return Damaged("context");
  }
  return record;
}

std::string EncodeHead(const ContextHead& head, uint64_t seed) {
  std::string out(1, static_cast<char>(kVersion));
  out.push_back(static_cast<char>(head.sealed ? 1 : 0));
  AppendLittle<uint64_t>(out, head.next_position);
  AppendLittle<uint64_t>(out, head.writer);
  AppendLittle<uint64_t>(out, head.claim);
  AppendLittle<uint64_t>(out, head.last_first);
  AppendLittle<uint32_t>(out, head.last_count);
  AppendLittle<uint64_t>(out, head.last_digest);
  AppendLittle<uint64_t>(out, head.payloads);
  AppendLittle<uint64_t>(out, head.payload_bytes);
  SealValue(out, seed);
  return out;
}

absl::StatusOr<ContextHead> DecodeHead(ByteView value, uint64_t seed) {
  MNEMO_ASSIGN_OR_RETURN(ByteReader reader, OpenValue(value, seed, kVersion, "context head"));
  ContextHead head;
  const auto sealed = reader.Little<uint8_t>();
  head.sealed = sealed != 0;
  head.next_position = reader.Little<uint64_t>();
  head.writer = reader.Little<uint64_t>();
  head.claim = reader.Little<uint64_t>();
  head.last_first = reader.Little<uint64_t>();
  head.last_count = reader.Little<uint32_t>();
  head.last_digest = reader.Little<uint64_t>();
  head.payloads = reader.Little<uint64_t>();
  head.payload_bytes = reader.Little<uint64_t>();
  if (!reader.ok() || reader.remaining() != 0 || sealed > 1 || head.next_position > kMaxPosition) {
    return Damaged("context head");
  }
  return head;
}

std::string EncodeErased(const ErasedContext& erased, uint64_t seed) {
  std::string out(1, static_cast<char>(kVersion));
  out.push_back(static_cast<char>(erased.durability));
  AppendLittle<uint64_t>(out, erased.tokens);
  SealValue(out, seed);
  return out;
}

absl::StatusOr<ErasedContext> DecodeErased(ByteView value, uint64_t seed) {
  MNEMO_ASSIGN_OR_RETURN(ByteReader reader, OpenValue(value, seed, kVersion, "erased context"));
  ErasedContext erased;
  erased.durability = static_cast<Durability>(reader.Little<uint8_t>());
  erased.tokens = reader.Little<uint64_t>();
  if (!reader.ok() || reader.remaining() != 0 || erased.tokens > kMaxPosition ||
      (erased.durability != Durability::kInterval && erased.durability != Durability::kSync)) {
    return Damaged("erased context");
  }
  return erased;
}

std::string EncodePayload(const PayloadView& payload, uint64_t seed) {
  std::string out(1, static_cast<char>(kVersion));
  AppendLittle<uint64_t>(out, payload.first_position);
  AppendLittle<uint32_t>(out, static_cast<uint32_t>(payload.count));
  out.append(payload.bytes);
  SealValue(out, seed);
  return out;
}

absl::StatusOr<StoredPayload> DecodePayload(ByteView value, uint64_t seed) {
  MNEMO_ASSIGN_OR_RETURN(ByteReader reader, OpenValue(value, seed, kVersion, "payload"));
  StoredPayload payload;
  payload.first_position = reader.Little<uint64_t>();
  payload.count = reader.Little<uint32_t>();
  payload.bytes = AsText(reader.Take(reader.remaining()));
  if (!reader.ok() || payload.first_position >= kMaxPosition || payload.count == 0 ||
      payload.count > kMaxTokensPerAppend || payload.bytes.empty() ||
      payload.bytes.size() > kMaxPayloadBytes) {
    return Damaged("payload");
  }
  return payload;
}

absl::Status ContextLink::Validate() const {
  if (tokens_per_block < 1 || tokens_per_block > kMaxTokensPerBlock) {
    return absl::InvalidArgumentError(
        fmt::format("tokens_per_block is {} (1 to {})", tokens_per_block, kMaxTokensPerBlock));
  }
  if (keys.empty() || keys.size() > kMaxKeys) {
    return absl::InvalidArgumentError(
        fmt::format("keys: {} of them (1 to {})", keys.size(), kMaxKeys));
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].empty() || keys[i].size() > kMaxKeyBytes) {
      return absl::InvalidArgumentError(
          fmt::format("keys[{}] has {} bytes (1 to {})", i, keys[i].size(), kMaxKeyBytes));
    }
  }
  if (first_position >= kMaxPosition) {
    return absl::InvalidArgumentError(
        fmt::format("first_position is {} (0 to {})", first_position, kMaxPosition - 1));
  }
  return absl::OkStatus();
}

std::string EncodeLink(const ContextLink& link, uint64_t seed) {
  std::string out(1, static_cast<char>(kVersion));
  AppendLittle<uint64_t>(out, link.first_position);
  AppendLittle<uint32_t>(out, link.tokens_per_block);
  AppendLittle<uint64_t>(out, link.space);
  AppendLittle<uint16_t>(out, static_cast<uint16_t>(link.keys.size()));
  for (const std::string& key : link.keys) AppendShort(out, key);
  SealValue(out, seed);
  return out;
}

absl::StatusOr<ContextLink> DecodeLink(ByteView value, uint64_t seed) {
  MNEMO_ASSIGN_OR_RETURN(ByteReader reader, OpenValue(value, seed, kVersion, "link"));
  ContextLink link;
  link.first_position = reader.Little<uint64_t>();
  link.tokens_per_block = reader.Little<uint32_t>();
  link.space = reader.Little<uint64_t>();
  const auto keys = reader.Little<uint16_t>();
  for (uint16_t i = 0; i < keys && reader.ok(); ++i) {
    link.keys.emplace_back(AsText(reader.TakeShort()));
  }
  if (!reader.ok() || reader.remaining() != 0 || !link.Validate().ok()) return Damaged("link");
  return link;
}

}  // namespace mnemo
