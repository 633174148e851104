#include "storage/codec/codec.h"

#include <fmt/format.h>

#include <cstring>
#include <iterator>

namespace mnemo {
namespace {

class RawCodec final : public Codec {
 public:
  CodecId id() const override { return CodecId::kRaw; }
  uint64_t MaxEncodedSize(uint64_t exact_size) const override { return exact_size; }

  absl::StatusOr<uint64_t> Encode(ByteView exact, uint32_t /*element_bytes*/,
                                  MutableByteView into) const override {
    if (into.size() < exact.size()) {
      return absl::InvalidArgumentError(
          fmt::format("room of {} bytes, not {} or more", into.size(), exact.size()));
    }
    if (!exact.empty()) std::memcpy(into.data(), exact.data(), exact.size());
    return exact.size();
  }

  absl::Status Decode(ByteView encoded, MutableByteView exact) const override {
    if (encoded.size() != exact.size()) {
      return absl::DataLossError(
          fmt::format("raw section of {} bytes, not {}", encoded.size(), exact.size()));
    }
    if (!exact.empty()) std::memcpy(exact.data(), encoded.data(), exact.size());
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<Codec> MakeRawCodec() { return std::make_unique<RawCodec>(); }

CodecSet::CodecSet() : codecs_{MakeRawCodec(), MakeLosslessCodec()} {}

absl::StatusOr<const Codec*> CodecSet::Find(uint8_t id) const {
  if (id >= codecs_.size()) {
    return absl::DataLossError(
        fmt::format("codec {} is not known (0 to {})", id, codecs_.size() - 1));
  }
  return codecs_[id].get();
}

namespace {

struct FormFacts {
  CodecId codec;
  uint32_t bits;
};
// By StoredForm.
constexpr FormFacts kForms[] = {
    {CodecId::kRaw, 0},         {CodecId::kLossless, 0},    {CodecId::kKivi, 2},
    {CodecId::kKivi, 4},        {CodecId::kKivi, 8},        {CodecId::kRotated, 2},
    {CodecId::kRotated, 3},     {CodecId::kRotated, 4},     {CodecId::kRotated, 5},
    {CodecId::kProgressive, 2}, {CodecId::kProgressive, 3}, {CodecId::kProgressive, 4},
    {CodecId::kProgressive, 5}, {CodecId::kProgressive, 8}, {CodecId::kTransform, 2},
    {CodecId::kTransform, 3}};

// One that this build does not know, as a later one may leave it, has no bits.
const FormFacts& FactsOf(StoredForm form) {
  const auto index = static_cast<size_t>(form);
  return kForms[index < std::size(kForms) ? index : 0];
}

}  // namespace

std::optional<StoredForm> FormOf(CodecId codec, uint32_t bits) {
  for (size_t form = 0; form < std::size(kForms); ++form) {
    if (kForms[form].codec == codec && kForms[form].bits == bits) {
      return static_cast<StoredForm>(form);
    }
  }
  return std::nullopt;
}

CodecId CodecOf(StoredForm form) { return FactsOf(form).codec; }
uint32_t BitsOf(StoredForm form) { return FactsOf(form).bits; }

std::string FormName(uint8_t form) {
  if (form >= std::size(kForms)) return "unknown";
  const FormFacts& facts = kForms[form];
  const std::string_view codec = CodecName(static_cast<uint8_t>(facts.codec));
  return facts.bits == 0 ? std::string(codec) : fmt::format("{}{}", codec, facts.bits);
}

std::string_view CodecName(uint8_t id) {
  switch (static_cast<CodecId>(id)) {
    case CodecId::kRaw:
      return "raw";
    case CodecId::kLossless:
      return "lossless";
    case CodecId::kKivi:
      return "kivi";
    case CodecId::kRotated:
      return "rotated";
    case CodecId::kProgressive:
      return "progressive";
    case CodecId::kTransform:
      return "transform";
  }
  return "unknown";
}

}  // namespace mnemo
