#include "storage/codec/embedding_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <utility>

#include "storage/base/checksum.h"
#include "storage/base/half.h"
#include "storage/base/status_macros.h"
#include "storage/codec/principal_axes.h"
#include "storage/codec/row_kernels.h"

namespace mnemo {
namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kHeaderBytes = 24;
constexpr uint32_t kBasisMagic = 0x424e454d;  // "MENB"
constexpr uint32_t kBasisVersion = 1;
constexpr size_t kBasisHeaderBytes = 16;
constexpr float kLargestFp8 = 448;
// Squares and sums of these stay within fp32.
constexpr float kLargest = 1e15F;
// Along an axis values may be sqrt(dimension) times as large.
constexpr float kLargestScale = 1e18F;

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(fmt::format("embedding section: {}", what));
}

absl::Status CheckRange(std::string_view field, uint64_t value, uint64_t least, uint64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("embeddings.{} is {}, allowed {} to {}", field, value, least, most));
}

// NaN is not within anything.
bool AllWithin(std::span<const float> values, float most) {
  return std::all_of(values.begin(), values.end(),
                     [=](float value) { return std::abs(value) <= most; });
}

absl::Status CheckValues(std::span<const float> values) {
  if (AllWithin(values, kLargest)) return absl::OkStatus();
  return absl::OutOfRangeError(
      fmt::format("embeddings: a value that is not finite, or beyond {}", kLargest));
}

float Largest(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

// What the largest is divided by, so that it is stored as `most`.
float ScaleFor(float largest, float most) { return std::max(largest / most, FLT_MIN); }

bool IsScale(float scale) { return scale >= FLT_MIN && scale <= kLargestScale; }

void AppendFloats(std::string& out, std::span<const float> values) {
  out.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

void AddError(std::span<const float> exact, std::span<const float> decoded, EncodingError& error) {
  error.values += exact.size();
  for (size_t i = 0; i < exact.size(); ++i) {
    const double difference = double{exact[i]} - decoded[i];
    error.squares += double{exact[i]} * exact[i];
    error.squared_errors += difference * difference;
    error.largest = std::max(error.largest, std::abs(difference));
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<const EmbeddingBasis>> EmbeddingBasis::Fit(
    std::span<const float> rows, uint32_t dimension, uint32_t kept) {
  MNEMO_RETURN_IF_ERROR(CheckRange("dimension", dimension, 2, kMaxDimension));
  MNEMO_RETURN_IF_ERROR(CheckRange("kept", kept, 1, dimension - 1));
  const size_t count = rows.size() / dimension;
  MNEMO_RETURN_IF_ERROR(CheckRange("rows", count, kept, SIZE_MAX));
  MNEMO_RETURN_IF_ERROR(CheckRange("values behind the last row", rows.size() % dimension, 0, 0));
  MNEMO_RETURN_IF_ERROR(CheckValues(rows));
  std::vector<double> mean(dimension);
  for (size_t i = 0; i < rows.size(); ++i) mean[i % dimension] += rows[i];
  for (double& each : mean) each /= static_cast<double>(count);
  std::vector<double> covariance(size_t{dimension} * dimension);
  std::vector<double> centred(dimension);
  for (size_t row = 0; row < count; ++row) {
    for (uint32_t i = 0; i < dimension; ++i) centred[i] = rows[row * dimension + i] - mean[i];
    for (uint32_t i = 0; i < dimension; ++i) {
      double* const sums = covariance.data() + size_t{i} * dimension;
      for (uint32_t j = 0; j < dimension; ++j) sums[j] += centred[i] * centred[j];
    }
  }
  for (double& each : covariance) each /= static_cast<double>(count);
  std::shared_ptr<EmbeddingBasis> made(new EmbeddingBasis());
  made->dimension_ = dimension;
  made->kept_ = kept;
  made->mean_.assign(mean.begin(), mean.end());
  made->axes_ = FindPrincipalAxes(std::move(covariance), dimension, kept).axes;
  // The id is that of the bytes.
  return Parse(AsBytes(made->Serialize()));
}

std::string EmbeddingBasis::Serialize() const {
  std::string out;
  for (const uint32_t field : {kBasisMagic, kBasisVersion, dimension_, kept_}) {
    AppendLittle(out, field);
  }
  AppendFloats(out, mean_);
  AppendFloats(out, axes_);
  AppendLittle(out, Checksum64(AsBytes(out)));
  return out;
}

absl::StatusOr<std::shared_ptr<const EmbeddingBasis>> EmbeddingBasis::Parse(ByteView bytes) {
  const auto damaged = [](std::string_view what) {
    return absl::DataLossError(fmt::format("embedding basis: {}", what));
  };
  ByteReader reader(bytes);
  std::shared_ptr<EmbeddingBasis> made(new EmbeddingBasis());
  if (reader.Little<uint32_t>() != kBasisMagic) return damaged("another magic");
  if (reader.Little<uint32_t>() != kBasisVersion) return damaged("another version");
  made->dimension_ = reader.Little<uint32_t>();
  made->kept_ = reader.Little<uint32_t>();
  if (!reader.ok() || made->dimension_ < 2 || made->dimension_ > kMaxDimension || made->kept_ < 1 ||
      made->kept_ >= made->dimension_) {
    return damaged("dimensions");
  }
  const size_t floats = size_t{made->dimension_} * (made->kept_ + size_t{1});
  if (bytes.size() != kBasisHeaderBytes + floats * sizeof(float) + sizeof(uint64_t)) {
    return damaged("another size");
  }
  const uint64_t checksum = Checksum64(bytes.first(bytes.size() - sizeof(uint64_t)));
  made->mean_.resize(made->dimension_);
  made->axes_.resize(floats - made->dimension_);
  CopyInto(reader.Take(made->mean_.size() * sizeof(float)), made->mean_.data());
  CopyInto(reader.Take(made->axes_.size() * sizeof(float)), made->axes_.data());
  if (reader.Little<uint64_t>() != checksum) return damaged("its checksum");
  // Rows of norm 1.
  if (!AllWithin(made->mean_, kLargest) || !AllWithin(made->axes_, 1.001F)) {
    return damaged("numbers that make no sense");
  }
  made->id_ = std::max(static_cast<uint32_t>(checksum), uint32_t{1});
  return std::shared_ptr<const EmbeddingBasis>(std::move(made));
}

void EmbeddingBasis::Project(std::span<const float> row, std::span<float> coordinates) const {
  for (uint32_t k = 0; k < kept_; ++k) {
    const float* const axis = axes_.data() + size_t{k} * dimension_;
    // Eight sums, so that they need not wait for one another.
    float sums[8] = {};
    uint32_t i = 0;
    for (; i + 8 <= dimension_; i += 8) {
      for (uint32_t s = 0; s < 8; ++s) sums[s] += (row[i + s] - mean_[i + s]) * axis[i + s];
    }
    for (; i < dimension_; ++i) sums[0] += (row[i] - mean_[i]) * axis[i];
    coordinates[k] =
        ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  }
}

void EmbeddingBasis::Restore(std::span<const float> coordinates, std::span<float> row) const {
  std::copy(mean_.begin(), mean_.end(), row.begin());
  for (uint32_t k = 0; k < kept_; ++k) {
    const float* const axis = axes_.data() + size_t{k} * dimension_;
    const float along = coordinates[k];
    for (uint32_t i = 0; i < dimension_; ++i) row[i] += along * axis[i];
  }
}

absl::StatusOr<EmbeddingCodec> EmbeddingCodec::Create(EmbeddingForm form, uint32_t dimension,
                                                      std::shared_ptr<const EmbeddingBasis> basis) {
  MNEMO_RETURN_IF_ERROR(CheckRange("dimension", dimension, 1, kMaxEmbeddingDimension));
  const bool reduced = form == EmbeddingForm::kReducedFp8;
  if (reduced != (basis != nullptr)) {
    return absl::InvalidArgumentError(reduced ? "embeddings: the form takes a basis"
                                              : "embeddings: the form takes no basis");
  }
  if (basis != nullptr) {
    MNEMO_RETURN_IF_ERROR(
        CheckRange("dimension of the basis", basis->dimension(), dimension, dimension));
  }
  if (form < EmbeddingForm::kInt8 || form > EmbeddingForm::kRotated4) {
    return absl::InvalidArgumentError(
        fmt::format("embeddings: form {} is not known", static_cast<int>(form)));
  }
  return EmbeddingCodec(form, dimension, std::move(basis));
}

EmbeddingCodec::EmbeddingCodec(EmbeddingForm form, uint32_t dimension,
                               std::shared_ptr<const EmbeddingBasis> basis)
    : form_(form), dimension_(dimension), basis_(std::move(basis)) {
  if (form_ == EmbeddingForm::kRotated4) rotated_ = std::make_shared<RotatedRows>(dimension_);
}

uint64_t EmbeddingCodec::RowBytes() const {
  switch (form_) {
    case EmbeddingForm::kInt8:
      return Numbers() + sizeof(float);
    case EmbeddingForm::kRotated4:
      return rotated_->row_bytes();
    default:
      return Numbers();
  }
}

float EmbeddingCodec::Most() const { return form_ == EmbeddingForm::kRotated4 ? 1 : kLargestFp8; }

uint64_t EmbeddingCodec::EncodedSize(uint32_t rows) const {
  return kHeaderBytes + rows * RowBytes();
}

void EmbeddingCodec::EncodeRow(std::span<const float> row, float scale, std::span<float> work,
                               uint8_t* out) const {
  if (form_ == EmbeddingForm::kInt8) {
    const float own = ScaleFor(Largest(row), 127);
    StoreLittle(out, own);
    for (size_t i = 0; i < row.size(); ++i) {
      out[sizeof(float) + i] = static_cast<uint8_t>(
          static_cast<int8_t>(std::clamp(std::nearbyint(row[i] / own), -127.0F, 127.0F)));
    }
    return;
  }
  if (rotated_ != nullptr) return rotated_->Encode(row, scale, work, out);
  if (basis_ != nullptr) {
    basis_->Project(row, work);
  } else {
    std::copy(row.begin(), row.end(), work.begin());
  }
  for (float& value : work) value /= scale;
  codec::BestRowKernels().Store(DType::kFp8E4M3, work.data(), work.size(), out);
}

absl::Status EmbeddingCodec::DecodeRow(const uint8_t* in, float scale, std::span<float> work,
                                       std::span<float> row) const {
  if (form_ == EmbeddingForm::kInt8) {
    const auto own = LoadLittle<float>(in);
    if (!IsScale(own)) return Damaged("a scale that makes no sense");
    for (size_t i = 0; i < row.size(); ++i) {
      row[i] = static_cast<float>(static_cast<int8_t>(in[sizeof(float) + i])) * own;
    }
    return absl::OkStatus();
  }
  if (rotated_ != nullptr) {
    return rotated_->Decode(in, scale, work, row) ? absl::OkStatus()
                                                  : Damaged("a gain that is no number");
  }
  if (std::any_of(in, in + work.size(), [](uint8_t code) { return (code & 0x7f) == 0x7f; })) {
    return Damaged("a code of no number");
  }
  codec::BestRowKernels().Load(DType::kFp8E4M3, in, work.size(), work.data());
  for (float& value : work) value *= scale;
  if (basis_ != nullptr) {
    basis_->Restore(work, row);
  } else {
    std::copy(work.begin(), work.end(), row.begin());
  }
  return absl::OkStatus();
}

absl::StatusOr<EncodedEmbeddings> EmbeddingCodec::Encode(std::span<const float> embeddings,
                                                         MutableByteView into) const {
  const size_t rows = embeddings.size() / dimension_;
  MNEMO_RETURN_IF_ERROR(CheckRange("rows", rows, 1, UINT32_MAX));
  MNEMO_RETURN_IF_ERROR(
      CheckRange("values behind the last row", embeddings.size() % dimension_, 0, 0));
  MNEMO_RETURN_IF_ERROR(CheckValues(embeddings));
  const auto count = static_cast<uint32_t>(rows);
  MNEMO_RETURN_IF_ERROR(CheckRange("room", into.size(), EncodedSize(count), SIZE_MAX));
  std::vector<float> work(rotated_ != nullptr ? rotated_->padded() : Numbers());
  const auto row_at = [&](uint32_t row) {
    return embeddings.subspan(size_t{row} * dimension_, dimension_);
  };
  float largest = 0;
  for (uint32_t row = 0; row < count && form_ != EmbeddingForm::kInt8; ++row) {
    if (basis_ != nullptr) basis_->Project(row_at(row), work);
    largest = std::max(largest, Largest(basis_ != nullptr ? work : row_at(row)));
  }
  const float scale = ScaleFor(largest, Most());
  uint8_t* const header = into.data();
  std::fill_n(header, kHeaderBytes, 0);
  header[0] = kVersion;
  header[1] = static_cast<uint8_t>(form_);
  StoreLittle(header + 4, dimension_);
  StoreLittle(header + 8, count);
  StoreLittle(header + 12, Numbers());
  StoreLittle(header + 16, basis_ != nullptr ? basis_->id() : 0);
  StoreLittle(header + 20, scale);
  EncodedEmbeddings made{.bytes = EncodedSize(count)};
  std::vector<float> decoded(dimension_);
  for (uint32_t row = 0; row < count; ++row) {
    uint8_t* const out = into.data() + kHeaderBytes + row * RowBytes();
    EncodeRow(row_at(row), scale, work, out);
    MNEMO_RETURN_IF_ERROR(DecodeRow(out, scale, work, decoded));
    AddError(row_at(row), decoded, made.error);
  }
  return made;
}

absl::Status EmbeddingCodec::Decode(ByteView section, uint32_t first, uint32_t count,
                                    std::span<float> into) const {
  ByteReader reader(section);
  const auto version = reader.Little<uint8_t>();
  const auto form = reader.Little<uint8_t>();
  const auto reserved = reader.Little<uint16_t>();
  const auto dimension = reader.Little<uint32_t>();
  const auto rows = reader.Little<uint32_t>();
  const auto numbers = reader.Little<uint32_t>();
  const auto basis = reader.Little<uint32_t>();
  const auto scale = reader.Little<float>();
  if (!reader.ok()) return Damaged("shorter than its header");
  if (version != kVersion) return Damaged(fmt::format("version {}", version));
  if (reserved != 0) return Damaged("reserved bytes are not zero");
  if (form != static_cast<uint8_t>(form_) || dimension != dimension_ ||
      basis != (basis_ != nullptr ? basis_->id() : 0)) {
    return absl::FailedPreconditionError(
        fmt::format("embedding section: form {}, dimension {}, basis {:08x}; not those of this "
                    "codec",
                    form, dimension, basis));
  }
  if (numbers != Numbers() || reader.remaining() != rows * RowBytes()) {
    return Damaged("another size");
  }
  if (!IsScale(scale)) return Damaged("a scale that makes no sense");
  if (first > rows || count > rows - first || into.size() != uint64_t{count} * dimension_) {
    return absl::InvalidArgumentError(fmt::format("embeddings: rows [{}, {}) of {} into {} values",
                                                  first, uint64_t{first} + count, rows,
                                                  into.size()));
  }
  std::vector<float> work(rotated_ != nullptr ? rotated_->padded() : Numbers());
  for (uint32_t row = 0; row < count; ++row) {
    const uint8_t* const in = section.data() + kHeaderBytes + (uint64_t{first} + row) * RowBytes();
    MNEMO_RETURN_IF_ERROR(
        DecodeRow(in, scale, work, into.subspan(size_t{row} * dimension_, dimension_)));
  }
  return absl::OkStatus();
}

}  // namespace mnemo
