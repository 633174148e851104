// Plain C++: slow, obvious, and what every SIMD level is tested against.
#include <cmath>

#include "index/kernels/half.h"
#include "index/kernels/tables.h"
#include "storage/base/bytes.h"

namespace mnemo::kernels {
namespace {

template <ElementType kType>
float Element(const uint8_t* row, size_t dimension, size_t i) {
  if constexpr (kType == ElementType::kFloat32) {
    return LoadLittle<float>(row + i * 4);
  } else if constexpr (kType == ElementType::kFloat16) {
    return HalfToFloat(LoadLittle<uint16_t>(row + i * 2));
  } else if constexpr (kType == ElementType::kBfloat16) {
    return BfloatToFloat(LoadLittle<uint16_t>(row + i * 2));
  } else {
    return LoadLittle<float>(row + dimension) * static_cast<float>(static_cast<int8_t>(row[i]));
  }
}

template <Metric kMetric, ElementType kType>
void ScoreRows(const float* query, const uint8_t* const* rows, size_t count, size_t dimension,
               float* out) {
  for (size_t r = 0; r < count; ++r) {
    float dot = 0;
    float norm = 0;
    float distance = 0;
    for (size_t i = 0; i < dimension; ++i) {
      const float x = Element<kType>(rows[r], dimension, i);
      dot += query[i] * x;
      norm += x * x;
      distance += (query[i] - x) * (query[i] - x);
    }
    if constexpr (kMetric == Metric::kInnerProduct) out[r] = dot;
    if constexpr (kMetric == Metric::kCosine) out[r] = norm > 0 ? dot / std::sqrt(norm) : 0;
    if constexpr (kMetric == Metric::kL2) out[r] = -distance;
  }
}

template <ElementType kType>
void DecodeRow(const uint8_t* row, size_t dimension, float* out) {
  for (size_t i = 0; i < dimension; ++i) out[i] = Element<kType>(row, dimension, i);
}

void DotRows(const int16_t* query, const int8_t* const* rows, size_t count, size_t dimension,
             int32_t* out) {
  for (size_t r = 0; r < count; ++r) {
    int32_t sum = 0;
    for (size_t i = 0; i < dimension; ++i) sum += int32_t{query[i]} * rows[r][i];
    out[r] = sum;
  }
}

void SumCodes(const uint8_t* codes, size_t blocks, size_t tables, const uint8_t* lut,
              uint16_t* out) {
  for (size_t block = 0; block < blocks; ++block) {
    for (size_t j = 0; j < kBlockCodes; ++j) {
      uint32_t sum = 0;
      for (size_t table = 0; table < tables; ++table) {
        const uint8_t pair = codes[(block * tables + table) * 16 + j % 16];
        sum += lut[table * 16 + (j < 16 ? pair & 15 : pair >> 4)];
      }
      out[block * kBlockCodes + j] = static_cast<uint16_t>(sum);
    }
  }
}

template <ElementType kType>
void FillType(Kernels& table) {
  constexpr auto kAt = static_cast<size_t>(kType);
  table.score[static_cast<size_t>(Metric::kInnerProduct)][kAt] =
      ScoreRows<Metric::kInnerProduct, kType>;
  table.score[static_cast<size_t>(Metric::kCosine)][kAt] = ScoreRows<Metric::kCosine, kType>;
  table.score[static_cast<size_t>(Metric::kL2)][kAt] = ScoreRows<Metric::kL2, kType>;
  table.decode[kAt] = DecodeRow<kType>;
}

}  // namespace

void FillScalar(Kernels& table) {
  FillType<ElementType::kFloat32>(table);
  FillType<ElementType::kFloat16>(table);
  FillType<ElementType::kBfloat16>(table);
  FillType<ElementType::kInt8>(table);
  table.dot_rows = DotRows;
  table.sum_codes = SumCodes;
  table.hadamard = mnemo::Hadamard;
}

}  // namespace mnemo::kernels
