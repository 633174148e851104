// Scores of fp32 queries against stored rows, for every target of Highway.
#include <cmath>

#include "index/kernels/half.h"
#include "index/kernels/tables.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "index/kernels/float_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which defines the target.
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mnemo::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;

// Lanes(FloatTag) elements of a row from element i on, as fp32; and one alone.
// kInt8 comes without its scale.
template <ElementType kType>
struct Elements;

template <>
struct Elements<ElementType::kFloat32> {
  static HWY_INLINE FloatVec Load(const uint8_t* row, size_t i) {
    return hn::LoadU(FloatTag(), reinterpret_cast<const float*>(row) + i);
  }
  static HWY_INLINE float One(const uint8_t* row, size_t i) {
    float value;
    hwy::CopyBytes<4>(row + i * 4, &value);
    return value;
  }
};

template <>
struct Elements<ElementType::kFloat16> {
  static HWY_INLINE FloatVec Load(const uint8_t* row, size_t i) {
    const hn::Rebind<hwy::float16_t, FloatTag> half;
    return hn::PromoteTo(FloatTag(),
                         hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(row) + i));
  }
  static HWY_INLINE float One(const uint8_t* row, size_t i) {
    uint16_t bits;
    hwy::CopyBytes<2>(row + i * 2, &bits);
    return HalfToFloat(bits);
  }
};

template <>
struct Elements<ElementType::kBfloat16> {
  static HWY_INLINE FloatVec Load(const uint8_t* row, size_t i) {
    const hn::Rebind<hwy::bfloat16_t, FloatTag> half;
    return hn::PromoteTo(FloatTag(),
                         hn::LoadU(half, reinterpret_cast<const hwy::bfloat16_t*>(row) + i));
  }
  static HWY_INLINE float One(const uint8_t* row, size_t i) {
    uint16_t bits;
    hwy::CopyBytes<2>(row + i * 2, &bits);
    return BfloatToFloat(bits);
  }
};

template <>
struct Elements<ElementType::kInt8> {
  static HWY_INLINE FloatVec Load(const uint8_t* row, size_t i) {
    const hn::Rebind<int8_t, FloatTag> bytes;
    const hn::RebindToSigned<FloatTag> ints;
    const auto loaded = hn::LoadU(bytes, reinterpret_cast<const int8_t*>(row) + i);
    return hn::ConvertTo(FloatTag(), hn::PromoteTo(ints, loaded));
  }
  static HWY_INLINE float One(const uint8_t* row, size_t i) {
    return static_cast<float>(static_cast<int8_t>(row[i]));
  }
};

template <ElementType kType>
HWY_INLINE float ScaleOf(const uint8_t* row, size_t dimension) {
  float scale = 1;
  if constexpr (kType == ElementType::kInt8) hwy::CopyBytes<4>(row + dimension, &scale);
  return scale;
}

// What a row's elements are summed up to: a dot product, for kCosine the
// squared norm too, for kL2 the squared distance.
template <Metric kMetric, ElementType kType>
struct Sums {
  FloatVec first;
  FloatVec norm;

  // Written out, since an implicit constructor is not compiled for the target.
  HWY_INLINE Sums() : first(hn::Zero(FloatTag())), norm(hn::Zero(FloatTag())) {}

  HWY_INLINE void Add(FloatVec q, FloatVec x, FloatVec scale) {
    if constexpr (kMetric == Metric::kL2) {
      const FloatVec difference =
          kType == ElementType::kInt8 ? hn::NegMulAdd(scale, x, q) : hn::Sub(q, x);
      first = hn::MulAdd(difference, difference, first);
    } else {
      first = hn::MulAdd(q, x, first);
      if constexpr (kMetric == Metric::kCosine) norm = hn::MulAdd(x, x, norm);
    }
  }

  // Adds the elements that fill no vector, from `i` on, and makes a score.
  HWY_INLINE float Finish(const float* query, const uint8_t* row, size_t i, size_t dimension) {
    const float scale = ScaleOf<kType>(row, dimension);
    float sum = hn::GetLane(hn::SumOfLanes(FloatTag(), first));
    float squares = kMetric == Metric::kCosine ? hn::GetLane(hn::SumOfLanes(FloatTag(), norm)) : 0;
    for (; i < dimension; ++i) {
      const float x = Elements<kType>::One(row, i);
      const float difference = query[i] - scale * x;
      sum += kMetric == Metric::kL2 ? difference * difference : query[i] * x;
      squares += x * x;
    }
    if constexpr (kMetric == Metric::kL2) return -sum;
    // A scale cancels out of a cosine, but for its sign.
    if constexpr (kMetric == Metric::kCosine) {
      if (!(squares > 0) || scale == 0) return 0;
      return (scale < 0 ? -sum : sum) / std::sqrt(squares);
    }
    return scale * sum;
  }
};

// The next rows are asked for while these are summed up.
HWY_INLINE void PrefetchRow(const uint8_t* row, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) hwy::Prefetch(row + at);
}

template <Metric kMetric, ElementType kType>
void ScoreRows(const float* HWY_RESTRICT query, const uint8_t* const* HWY_RESTRICT rows,
               size_t count, size_t dimension, float* HWY_RESTRICT out) {
  using Row = Elements<kType>;
  const FloatTag tag;
  const size_t lanes = hn::Lanes(tag);
  const size_t bytes = RowBytes(kType, dimension);
  size_t r = 0;
  for (; r + 4 <= count; r += 4) {
    for (size_t next = r + 4; next < r + 8 && next < count; ++next) PrefetchRow(rows[next], bytes);
    const uint8_t* const HWY_RESTRICT a = rows[r];
    const uint8_t* const HWY_RESTRICT b = rows[r + 1];
    const uint8_t* const HWY_RESTRICT c = rows[r + 2];
    const uint8_t* const HWY_RESTRICT d = rows[r + 3];
    const FloatVec scale_a = hn::Set(tag, ScaleOf<kType>(a, dimension));
    const FloatVec scale_b = hn::Set(tag, ScaleOf<kType>(b, dimension));
    const FloatVec scale_c = hn::Set(tag, ScaleOf<kType>(c, dimension));
    const FloatVec scale_d = hn::Set(tag, ScaleOf<kType>(d, dimension));
    Sums<kMetric, kType> sum_a, sum_b, sum_c, sum_d;
    size_t i = 0;
    for (; i + lanes <= dimension; i += lanes) {
      const FloatVec q = hn::LoadU(tag, query + i);
      sum_a.Add(q, Row::Load(a, i), scale_a);
      sum_b.Add(q, Row::Load(b, i), scale_b);
      sum_c.Add(q, Row::Load(c, i), scale_c);
      sum_d.Add(q, Row::Load(d, i), scale_d);
    }
    out[r] = sum_a.Finish(query, a, i, dimension);
    out[r + 1] = sum_b.Finish(query, b, i, dimension);
    out[r + 2] = sum_c.Finish(query, c, i, dimension);
    out[r + 3] = sum_d.Finish(query, d, i, dimension);
  }
  for (; r < count; ++r) {
    const FloatVec scale = hn::Set(tag, ScaleOf<kType>(rows[r], dimension));
    Sums<kMetric, kType> sum;
    size_t i = 0;
    for (; i + lanes <= dimension; i += lanes) {
      sum.Add(hn::LoadU(tag, query + i), Row::Load(rows[r], i), scale);
    }
    out[r] = sum.Finish(query, rows[r], i, dimension);
  }
}

template <ElementType kType>
void DecodeRow(const uint8_t* HWY_RESTRICT row, size_t dimension, float* HWY_RESTRICT out) {
  const FloatTag tag;
  const size_t lanes = hn::Lanes(tag);
  const float scale = ScaleOf<kType>(row, dimension);
  size_t i = 0;
  for (; i + lanes <= dimension; i += lanes) {
    FloatVec x = Elements<kType>::Load(row, i);
    if constexpr (kType == ElementType::kInt8) x = hn::Mul(x, hn::Set(tag, scale));
    hn::StoreU(x, tag, out + i);
  }
  for (; i < dimension; ++i) out[i] = scale * Elements<kType>::One(row, i);
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

void FillAll(Kernels& table) {
  FillType<ElementType::kFloat32>(table);
  FillType<ElementType::kFloat16>(table);
  FillType<ElementType::kBfloat16>(table);
  FillType<ElementType::kInt8>(table);
}

}  // namespace mnemo::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mnemo::kernels {

HWY_EXPORT(FillAll);

void FillFloat(int64_t target, Kernels& table) {
  hwy::ChosenTarget chosen;
  chosen.Update(target);
  HWY_DISPATCH_TABLE(FillAll)[chosen.GetIndex()](table);
}

}  // namespace mnemo::kernels
#endif  // HWY_ONCE
