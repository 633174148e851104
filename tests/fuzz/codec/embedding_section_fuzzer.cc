// Embeddings: any bytes as sections of every form and as a basis, and any bytes as rows, there
// and back.
#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"
#include "storage/codec/embedding_codec.h"

namespace {

using namespace mnemo;

constexpr uint32_t kDimensions[] = {1, 2, 7, 8, 24, 40};

// Of a width that has one: half of the coordinates.
std::shared_ptr<const EmbeddingBasis> BasisOf(uint32_t dimension) {
  std::vector<float> rows(size_t{64} * dimension);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i] = static_cast<float>((i * 2654435761U >> 7) % 97) - 48.0F;
  }
  return EmbeddingBasis::Fit(rows, dimension, dimension / 2).value();
}

std::vector<EmbeddingCodec> MakeCodecs() {
  std::vector<EmbeddingCodec> codecs;
  for (const uint32_t dimension : kDimensions) {
    for (const EmbeddingForm form :
         {EmbeddingForm::kInt8, EmbeddingForm::kFp8, EmbeddingForm::kRotated4}) {
      codecs.push_back(EmbeddingCodec::Create(form, dimension, nullptr).value());
    }
    if (dimension < 2) continue;
    codecs.push_back(
        EmbeddingCodec::Create(EmbeddingForm::kReducedFp8, dimension, BasisOf(dimension)).value());
  }
  return codecs;
}

bool AllFinite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

// Decodes rows [first, first + count) of `section`, which may be anything.
void Decode(const EmbeddingCodec& codec, uint32_t dimension, ByteView section, uint32_t first,
            uint32_t count) {
  std::vector<float> rows(size_t{count} * dimension);
  const absl::Status status = codec.Decode(section, first, count, rows);
  if (status.ok()) MNEMO_CHECK(AllFinite(rows));
  MNEMO_CHECK(status.ok() || status.code() == absl::StatusCode::kDataLoss ||
              status.code() == absl::StatusCode::kInvalidArgument ||
              status.code() == absl::StatusCode::kFailedPrecondition);
}

void ThereAndBack(const EmbeddingCodec& codec, uint32_t dimension, ByteView bytes) {
  const size_t count = std::min<size_t>(bytes.size() / 4 / dimension, 64);
  if (count == 0) return;
  std::vector<float> rows(count * dimension);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = LoadLittle<float>(bytes.data() + 4 * i);
  std::vector<uint8_t> encoded(codec.EncodedSize(static_cast<uint32_t>(count)));
  const auto made = codec.Encode(rows, encoded);
  MNEMO_CHECK(made.ok() || made.status().code() == absl::StatusCode::kOutOfRange);
  if (!made.ok()) return;
  MNEMO_CHECK(made->bytes == encoded.size());
  std::vector<float> back(rows.size());
  MNEMO_CHECK(codec.Decode(encoded, 0, static_cast<uint32_t>(count), back).ok());
  MNEMO_CHECK(AllFinite(back));
}

// Any bytes under a right checksum.
void ParseBasis(ByteView bytes) {
  std::string whole(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const uint64_t checksum = Checksum64(AsBytes(whole));
  AppendLittle(whole, checksum);
  const auto parsed = EmbeddingBasis::Parse(AsBytes(whole));
  MNEMO_CHECK(parsed.ok() || parsed.status().code() == absl::StatusCode::kDataLoss);
  if (!parsed.ok()) return;
  MNEMO_CHECK((*parsed)->Serialize() == whole);
  const uint32_t dimension = (*parsed)->dimension();
  const auto codec = EmbeddingCodec::Create(EmbeddingForm::kReducedFp8, dimension, *parsed).value();
  ThereAndBack(codec, dimension, bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<EmbeddingCodec> codecs = MakeCodecs();
  ByteReader reader(ByteView(data, size));
  const auto chosen = reader.Little<uint8_t>();
  const auto first = reader.Little<uint8_t>();
  const uint32_t count = reader.Little<uint8_t>() % 64;
  const ByteView bytes = reader.Take(reader.remaining());
  if (!reader.ok()) return 0;
  // Three forms of the first dimension, four of each other.
  const size_t number = chosen % codecs.size();
  const uint32_t dimension = kDimensions[(number + 1) / 4];
  Decode(codecs[number], dimension, bytes, first, count);
  ThereAndBack(codecs[number], dimension, bytes);
  ParseBasis(bytes);
  return 0;
}
