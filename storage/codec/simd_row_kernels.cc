// The rows' inner loops for every target of Highway. What a loop leaves over, and
// shapes that fit no vector, are plain C++'s.
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "storage/codec/row_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "storage/codec/simd_row_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which defines the target.
#include "hwy/highway.h"
#include "storage/base/hadamard.inc"

HWY_BEFORE_NAMESPACE();
namespace mnemo::codec::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Highway's own one-lane target has no room for a table; no level of ours is it.
#if HWY_TARGET != HWY_SCALAR

using FloatTag = hn::CappedTag<float, 16>;
using FloatVec = hn::Vec<FloatTag>;
using IntTag = hn::RebindToSigned<FloatTag>;

// Puts `bits` of a plane into codes: above them what is there, or nothing yet.
template <class D>
HWY_INLINE void PutCodes(D tag, hn::Vec<D> bits, uint32_t width, bool first,
                         uint8_t* HWY_RESTRICT codes) {
  if (!first) {
    const hn::Vec<D> above = hn::LoadU(tag, codes);
    // Codes so far are below 2^(8 - width), so nothing crosses into a neighbour.
    const hn::Repartition<uint16_t, D> words;
    const auto moved = hn::ShiftLeftSame(hn::BitCast(words, above), static_cast<int>(width));
    bits = hn::Or(bits, hn::BitCast(tag, moved));
  }
  hn::StoreU(bits, tag, codes);
}

// The lowest `width` bits of each byte, which is shifted down by `shift`.
template <class D>
HWY_INLINE hn::Vec<D> BitsOfBytes(D tag, hn::Vec<D> bytes, int shift, uint32_t width) {
  const hn::Repartition<uint16_t, D> words;
  const auto moved = hn::BitCast(tag, hn::ShiftRightSame(hn::BitCast(words, bytes), shift));
  return hn::And(moved, hn::Set(tag, static_cast<uint8_t>((1U << width) - 1)));
}

// Rows of width 2 or 4, whose parts are multiples of the vector's lanes.
template <class D>
HWY_INLINE void UnpackParts(D tag, const uint8_t* HWY_RESTRICT in, uint32_t width, size_t rows,
                            size_t padded, bool first, uint8_t* HWY_RESTRICT codes) {
  const size_t lanes = hn::Lanes(tag);
  const size_t part = PlaneRowBytes(padded, width);
  for (size_t row = 0; row < rows; ++row, in += part, codes += padded) {
    for (size_t j = 0; j < part; j += lanes) {
      const hn::Vec<D> bytes = hn::LoadU(tag, in + j);
      for (uint32_t shift = 0, p = 0; shift < 8; shift += width, ++p) {
        PutCodes(tag, BitsOfBytes(tag, bytes, static_cast<int>(shift), width), width, first,
                 codes + p * part + j);
      }
    }
  }
}

// Bits in their natural order, 64 at a time.
HWY_INLINE void UnpackBits(const uint8_t* HWY_RESTRICT in, size_t count, bool first,
                           uint8_t* HWY_RESTRICT codes) {
  const hn::CappedTag<uint8_t, 64> tag;
  const size_t lanes = hn::Lanes(tag);
  const auto one = hn::Set(tag, 1);
  for (size_t i = 0; i < count; i += 64) {
    // A mask is loaded from 8 readable bytes, however few it needs.
    uint8_t word[16] = {};
    std::memcpy(word, in + i / 8, 8);
    for (size_t j = 0; j < 64; j += lanes) {
      const auto bits = hn::IfThenElseZero(hn::LoadMaskBits(tag, word + j / 8), one);
      PutCodes(tag, bits, 1, first, codes + i + j);
    }
  }
}

void Unpack(const CodePlane* planes, size_t plane_count, size_t rows, size_t padded,
            uint8_t* codes) {
  if (padded % 64 != 0) return ScalarRowKernels().unpack(planes, plane_count, rows, padded, codes);
  for (size_t p = 0; p < plane_count; ++p) {
    const CodePlane& plane = planes[p];
    switch (plane.width) {
      case 1:
        UnpackBits(plane.rows, rows * padded, p == 0, codes);
        break;
      case 2:
        UnpackParts(hn::CappedTag<uint8_t, 16>(), plane.rows, 2, rows, padded, p == 0, codes);
        break;
      case 4:
        UnpackParts(hn::CappedTag<uint8_t, 32>(), plane.rows, 4, rows, padded, p == 0, codes);
        break;
      default:
        std::memcpy(codes, plane.rows, rows * padded);
        break;
    }
  }
}

HWY_INLINE FloatVec LoadCodes(const uint8_t* HWY_RESTRICT codes) {
  const hn::Rebind<uint8_t, FloatTag> bytes;
  return hn::ConvertTo(FloatTag(), hn::PromoteTo(IntTag(), hn::LoadU(bytes, codes)));
}

void ScaleCodes(const uint8_t* HWY_RESTRICT codes, const float* HWY_RESTRICT scale,
                const float* HWY_RESTRICT offset, size_t count, float* HWY_RESTRICT values) {
  const FloatTag tag;
  const size_t lanes = hn::Lanes(tag);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const FloatVec scaled =
        hn::MulAdd(hn::LoadU(tag, scale + i), LoadCodes(codes + i), hn::LoadU(tag, offset + i));
    hn::StoreU(scaled, tag, values + i);
  }
  ScalarRowKernels().scale_codes(codes + i, scale + i, offset + i, count - i, values + i);
}

// 16 levels of 16 bits as two tables of bytes.
struct ShortTable {
  using Bytes = hn::Repartition<uint8_t, FloatTag>;
  using Words = hn::Repartition<uint16_t, FloatTag>;
  hn::Vec<Bytes> low;
  hn::Vec<Bytes> high;

  HWY_INLINE explicit ShortTable(const int16_t* HWY_RESTRICT units) {
    HWY_ALIGN uint8_t lows[16];
    HWY_ALIGN uint8_t highs[16];
    for (size_t i = 0; i < 16; ++i) {
      lows[i] = static_cast<uint8_t>(units[i]);
      highs[i] = static_cast<uint8_t>(static_cast<uint16_t>(units[i]) >> 8);
    }
    low = hn::LoadDup128(Bytes(), lows);
    high = hn::LoadDup128(Bytes(), highs);
  }
  // Of indices below 16, one a word.
  HWY_INLINE hn::Vec<Words> At(hn::Vec<Words> index) const {
    const auto bytes = hn::BitCast(Bytes(), index);
    const auto lows = hn::BitCast(Words(), hn::TableLookupBytes(low, bytes));
    const auto highs = hn::BitCast(Words(), hn::TableLookupBytes(high, bytes));
    return hn::Or(hn::And(lows, hn::Set(Words(), 0xff)), hn::ShiftLeft<8>(highs));
  }
};

// Up to 16 levels, or 32 if kTwo. Returns how many codes it took.
template <bool kTwo>
HWY_INLINE size_t LookUpShort(const uint8_t* HWY_RESTRICT codes, const LevelTable& table,
                              size_t count, float* HWY_RESTRICT values) {
  const ShortTable::Words words;
  const hn::RebindToSigned<ShortTable::Words> signed_words;
  const hn::Half<hn::RebindToSigned<ShortTable::Words>> half;
  const hn::Rebind<uint8_t, ShortTable::Words> half_bytes;
  const ShortTable first(table.units);
  const ShortTable second(table.units + (kTwo ? 16 : 0));
  const auto fifteen = hn::Set(words, 15);
  const FloatVec unit = hn::Set(FloatTag(), kLevelUnit);
  const size_t lanes = hn::Lanes(words);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto index = hn::PromoteTo(words, hn::LoadU(half_bytes, codes + i));
    auto units = first.At(kTwo ? hn::And(index, fifteen) : index);
    if (kTwo) {
      units = hn::IfThenElse(hn::Gt(index, fifteen), second.At(hn::And(index, fifteen)), units);
    }
    const auto levels = hn::BitCast(signed_words, units);
    const auto lower = hn::PromoteTo(IntTag(), hn::LowerHalf(half, levels));
    const auto upper = hn::PromoteTo(IntTag(), hn::UpperHalf(half, levels));
    hn::StoreU(hn::Mul(hn::ConvertTo(FloatTag(), lower), unit), FloatTag(), values + i);
    hn::StoreU(hn::Mul(hn::ConvertTo(FloatTag(), upper), unit), FloatTag(), values + i + lanes / 2);
  }
  return i;
}

void LookUp(const uint8_t* HWY_RESTRICT codes, const LevelTable& table, size_t count,
            float* HWY_RESTRICT values) {
  const hn::Rebind<uint8_t, FloatTag> bytes;
  const size_t lanes = hn::Lanes(FloatTag());
  size_t i = 0;
  if (table.count <= 16) {
    i = LookUpShort<false>(codes, table, count, values);
  } else if (table.count == 32) {
    i = LookUpShort<true>(codes, table, count, values);
  } else {
    for (; i + lanes <= count; i += lanes) {
      const auto index = hn::PromoteTo(IntTag(), hn::LoadU(bytes, codes + i));
      hn::StoreU(hn::GatherIndex(FloatTag(), table.values, index), FloatTag(), values + i);
    }
  }
  ScalarRowKernels().look_up(codes + i, table, count - i, values + i);
}

void ScaleRows(float* HWY_RESTRICT values, const float* HWY_RESTRICT gains,
               const float* HWY_RESTRICT scale, const float* HWY_RESTRICT offset, size_t rows,
               size_t padded) {
  const hn::CappedTag<float, 8> small;
  const FloatTag tag;
  const size_t lanes = hn::Lanes(tag);
  for (size_t row = 0; row < rows; ++row) {
    size_t i = row * padded;
    const size_t end = i + padded;
    const FloatVec gain = hn::Set(tag, gains[row]);
    for (; i + lanes <= end; i += lanes) {
      const FloatVec factor = hn::Mul(gain, hn::LoadU(tag, scale + i));
      hn::StoreU(hn::MulAdd(hn::LoadU(tag, values + i), factor, hn::LoadU(tag, offset + i)), tag,
                 values + i);
    }
    // A padded row is a multiple of 8.
    for (; i < end; i += hn::Lanes(small)) {
      const auto factor = hn::Mul(hn::Set(small, gains[row]), hn::LoadU(small, scale + i));
      hn::StoreU(hn::MulAdd(hn::LoadU(small, values + i), factor, hn::LoadU(small, offset + i)),
                 small, values + i);
    }
  }
}

HWY_INLINE FloatVec Turned(FloatVec value, FloatVec partner, const float* HWY_RESTRICT cosine,
                           const float* HWY_RESTRICT sine, FloatVec sign) {
  const FloatTag tag;
  return hn::MulAdd(value, hn::LoadU(tag, cosine),
                    hn::Mul(partner, hn::Mul(sign, hn::LoadU(tag, sine))));
}

void Turn(float* HWY_RESTRICT values, const float* HWY_RESTRICT cosine,
          const float* HWY_RESTRICT sine, float sign, bool interleaved, size_t rows,
          size_t dimension, size_t stride) {
  const FloatTag tag;
  const size_t lanes = hn::Lanes(tag);
  const size_t pairs = dimension / 2;
  if (pairs % lanes != 0) {
    return ScalarRowKernels().turn(values, cosine, sine, sign, interleaved, rows, dimension,
                                   stride);
  }
  const FloatVec signs = hn::Set(tag, sign);
  for (size_t row = 0; row < rows; ++row) {
    float* const at = values + row * stride;
    if (interleaved) {
      for (size_t i = 0; i < dimension; i += lanes) {
        const FloatVec value = hn::LoadU(tag, at + i);
        hn::StoreU(Turned(value, hn::Reverse2(tag, value), cosine + i, sine + i, signs), tag,
                   at + i);
      }
      continue;
    }
    for (size_t i = 0; i < pairs; i += lanes) {
      const FloatVec a = hn::LoadU(tag, at + i);
      const FloatVec b = hn::LoadU(tag, at + i + pairs);
      hn::StoreU(Turned(a, b, cosine + i, sine + i, signs), tag, at + i);
      hn::StoreU(Turned(b, a, cosine + i + pairs, sine + i + pairs, signs), tag, at + i + pairs);
    }
  }
}

void Advance(float* HWY_RESTRICT cosine, float* HWY_RESTRICT sine,
             const float* HWY_RESTRICT step_cosine, const float* HWY_RESTRICT step_sine,
             size_t count) {
  const FloatTag tag;
  const size_t lanes = hn::Lanes(tag);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const FloatVec c = hn::LoadU(tag, cosine + i);
    const FloatVec s = hn::LoadU(tag, sine + i);
    const FloatVec dc = hn::LoadU(tag, step_cosine + i);
    const FloatVec ds = hn::LoadU(tag, step_sine + i);
    hn::StoreU(hn::NegMulAdd(s, ds, hn::Mul(c, dc)), tag, cosine + i);
    hn::StoreU(hn::MulAdd(s, dc, hn::Mul(c, ds)), tag, sine + i);
  }
  ScalarRowKernels().advance(cosine + i, sine + i, step_cosine + i, step_sine + i, count - i);
}

// Dot products of rows with axes, four rows at once. A padded row is a multiple of 8.
void Project(const float* HWY_RESTRICT rows, size_t stride, size_t tokens,
             const float* HWY_RESTRICT axes, size_t count, size_t padded,
             float* HWY_RESTRICT coordinates) {
  const hn::CappedTag<float, 8> tag;
  using Vec = hn::Vec<hn::CappedTag<float, 8>>;
  const size_t lanes = hn::Lanes(tag);
  size_t t = 0;
  for (; t + 4 <= tokens; t += 4) {
    const float* HWY_RESTRICT const row = rows + t * stride;
    for (size_t c = 0; c < count; ++c) {
      const float* HWY_RESTRICT const axis = axes + c * padded;
      Vec sums[4] = {hn::Zero(tag), hn::Zero(tag), hn::Zero(tag), hn::Zero(tag)};
      for (size_t i = 0; i < padded; i += lanes) {
        const Vec of_axis = hn::LoadU(tag, axis + i);
        sums[0] = hn::MulAdd(hn::LoadU(tag, row + i), of_axis, sums[0]);
        sums[1] = hn::MulAdd(hn::LoadU(tag, row + stride + i), of_axis, sums[1]);
        sums[2] = hn::MulAdd(hn::LoadU(tag, row + 2 * stride + i), of_axis, sums[2]);
        sums[3] = hn::MulAdd(hn::LoadU(tag, row + 3 * stride + i), of_axis, sums[3]);
      }
      for (size_t k = 0; k < 4; ++k) {
        coordinates[c * kTileTokens + t + k] = hn::GetLane(hn::SumOfLanes(tag, sums[k]));
      }
    }
  }
  if (t == tokens) return;
  ScalarRowKernels().project(rows + t * stride, stride, tokens - t, axes, count, padded,
                             coordinates + t);
}

// Sums that are in the making at once: as many as there are registers for.
constexpr size_t kMixTokens = HWY_MAX_BYTES == 64 ? 8 : 4;

// Rows of all tokens, `kVectors` vectors wide, from the column `at`.
template <size_t kVectors, class D>
HWY_INLINE void MixColumns(D tag, const float* HWY_RESTRICT coordinates,
                           const float* HWY_RESTRICT axes, const float* HWY_RESTRICT offset,
                           size_t count, size_t padded, size_t at, float* HWY_RESTRICT rows,
                           size_t stride) {
  const size_t lanes = hn::Lanes(tag);
  const size_t apart = padded;
  for (size_t t = 0; t < kTileTokens; t += kMixTokens) {
    hn::Vec<D> sums[kMixTokens][kVectors];
    for (size_t v = 0; v < kVectors; ++v) {
      const hn::Vec<D> begin = hn::LoadU(tag, offset + at + v * lanes);
      for (auto& row : sums) row[v] = begin;
    }
    const float* HWY_RESTRICT axis = axes + at;
    const float* HWY_RESTRICT weight = coordinates + t;
    for (size_t c = 0; c < count; ++c, axis += apart, weight += kTileTokens) {
      for (size_t v = 0; v < kVectors; ++v) {
        const hn::Vec<D> column = hn::LoadU(tag, axis + v * lanes);
        for (size_t k = 0; k < kMixTokens; ++k) {
          sums[k][v] = hn::MulAdd(hn::Set(tag, weight[k]), column, sums[k][v]);
        }
      }
    }
    for (size_t k = 0; k < kMixTokens; ++k) {
      for (size_t v = 0; v < kVectors; ++v) {
        hn::StoreU(sums[k][v], tag, rows + (t + k) * stride + at + v * lanes);
      }
    }
  }
}

void Mix(const float* HWY_RESTRICT coordinates, const float* HWY_RESTRICT axes,
         const float* HWY_RESTRICT offset, size_t count, size_t padded, float* HWY_RESTRICT rows,
         size_t stride) {
  const FloatTag tag;
  const hn::CappedTag<float, 8> small;
  const size_t lanes = hn::Lanes(tag);
  size_t at = 0;
  for (; at + 2 * lanes <= padded; at += 2 * lanes) {
    MixColumns<2>(tag, coordinates, axes, offset, count, padded, at, rows, stride);
  }
  // A padded row is a multiple of 8.
  for (; at < padded; at += hn::Lanes(small)) {
    MixColumns<1>(small, coordinates, axes, offset, count, padded, at, rows, stride);
  }
}

void Place(const int16_t* HWY_RESTRICT codes, const int16_t* HWY_RESTRICT inward, uint32_t shift,
           size_t count, int16_t* HWY_RESTRICT points) {
  // One block, in which neighbours stay neighbours.
  const hn::CappedTag<int16_t, 8> tag;
  using Vec = hn::Vec<hn::CappedTag<int16_t, 8>>;
  const size_t lanes = hn::Lanes(tag);
  const Vec one = hn::Set(tag, 1);
  const auto point_of = [&](size_t c, size_t t) HWY_ATTR {
    const Vec code = hn::LoadU(tag, codes + c * kTileTokens + t);
    const auto is_near = hn::Eq(hn::Abs(code), one);
    const Vec less =
        hn::IfThenElse(is_near, hn::Set(tag, inward[c]), hn::Set(tag, inward[count + c]));
    const Vec towards = hn::IfThenElse(hn::Lt(code, hn::Zero(tag)), hn::Neg(less), less);
    const Vec point = hn::Sub(hn::ShiftLeftSame(code, static_cast<int>(shift)), towards);
    // A code 0 stays 0, wherever its neighbours' points are.
    return hn::IfThenZeroElse(hn::Eq(code, hn::Zero(tag)), point);
  };
  for (size_t c = 0; c < count; c += 2) {
    for (size_t t = 0; t < kTileTokens; t += lanes, points += 2 * lanes) {
      const Vec first = point_of(c, t);
      const Vec second = c + 1 < count ? point_of(c + 1, t) : hn::Zero(tag);
      hn::StoreU(hn::InterleaveLower(tag, first, second), tag, points);
      hn::StoreU(hn::InterleaveUpper(tag, first, second), tag, points + lanes);
    }
  }
}

// Rows of all tokens, `kVectors` vectors wide, from the column `at`.
template <size_t kVectors, class D>
HWY_INLINE void MixPointColumns(D tag, const int16_t* HWY_RESTRICT points,
                                const int16_t* HWY_RESTRICT axes, const float* HWY_RESTRICT steps,
                                const float* begin, size_t begin_stride, size_t count,
                                size_t padded, size_t at, float* rows, size_t stride) {
  const hn::Repartition<int16_t, D> shorts;
  const hn::RebindToFloat<D> floats;
  const size_t lanes = hn::Lanes(tag);
  for (size_t t = 0; t < kTileTokens; t += kMixTokens) {
    // Where a level multiplies and adds in halves, the second ones; x86 needs none.
    hn::Vec<D> sums[kMixTokens][kVectors], others[kMixTokens][kVectors];
    for (size_t k = 0; k < kMixTokens; ++k) {
      for (size_t v = 0; v < kVectors; ++v) sums[k][v] = others[k][v] = hn::Zero(tag);
    }
    // Without coordinates there may be no axes and no points.
    const int16_t* HWY_RESTRICT axis = count == 0 ? axes : axes + 2 * at;
    const int16_t* HWY_RESTRICT point = count == 0 ? points : points + 2 * t;
    for (size_t c = 0; c < count; c += 2, axis += 2 * padded, point += 2 * kTileTokens) {
      for (size_t v = 0; v < kVectors; ++v) {
        const auto column = hn::LoadU(shorts, axis + v * 2 * lanes);
        for (size_t k = 0; k < kMixTokens; ++k) {
          int32_t both;
          std::memcpy(&both, point + 2 * k, sizeof(both));
          sums[k][v] = hn::ReorderWidenMulAccumulate(
              tag, column, hn::BitCast(shorts, hn::Set(tag, both)), sums[k][v], others[k][v]);
        }
      }
    }
    for (size_t k = 0; k < kMixTokens; ++k) {
      const auto step = hn::Set(floats, steps[t + k]);
      for (size_t v = 0; v < kVectors; ++v) {
        const auto sum =
            hn::ConvertTo(floats, hn::RearrangeToOddPlusEven(sums[k][v], others[k][v]));
        const auto before = hn::LoadU(floats, begin + (t + k) * begin_stride + at + v * lanes);
        hn::StoreU(hn::MulAdd(step, sum, before), floats, rows + (t + k) * stride + at + v * lanes);
      }
    }
  }
}

void MixPoints(const int16_t* HWY_RESTRICT points, const int16_t* HWY_RESTRICT axes,
               const float* HWY_RESTRICT steps, const float* begin, size_t begin_stride,
               size_t count, size_t padded, float* rows, size_t stride) {
  const IntTag tag;
  const hn::CappedTag<int32_t, 8> small;
  const size_t lanes = hn::Lanes(tag);
  size_t at = 0;
  for (; at + 2 * lanes <= padded; at += 2 * lanes) {
    MixPointColumns<2>(tag, points, axes, steps, begin, begin_stride, count, padded, at, rows,
                       stride);
  }
  // A padded row is a multiple of 8.
  for (; at < padded; at += hn::Lanes(small)) {
    MixPointColumns<1>(small, points, axes, steps, begin, begin_stride, count, padded, at, rows,
                       stride);
  }
}

// Magnitude and sign bits of floats, clamped to +-largest.
struct Parts {
  hn::Vec<IntTag> magnitude;
  hn::Vec<IntTag> sign;
};
HWY_INLINE Parts ClampedParts(FloatVec value, float largest) {
  const FloatTag tag;
  const FloatVec most = hn::Set(tag, largest);
  const FloatVec clamped = hn::Min(hn::Max(value, hn::Neg(most)), most);
  const hn::Vec<IntTag> bits = hn::BitCast(IntTag(), clamped);
  const hn::Vec<IntTag> magnitude = hn::And(bits, hn::Set(IntTag(), 0x7fffffff));
  return {magnitude, hn::Xor(bits, magnitude)};
}

// The lowest 16 bits of each lane.
HWY_INLINE void StoreWords(hn::Vec<IntTag> bits, uint8_t* HWY_RESTRICT out) {
  const hn::Rebind<uint16_t, FloatTag> words;
  hn::StoreU(hn::DemoteTo(words, bits), words, reinterpret_cast<uint16_t*>(out));
}

// Rounds to nearest, ties to even, as half.h does.
void StoreBfloat(const float* HWY_RESTRICT in, size_t count, uint8_t* HWY_RESTRICT out) {
  const size_t lanes = hn::Lanes(FloatTag());
  const IntTag ints;
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const Parts parts = ClampedParts(hn::LoadU(FloatTag(), in + i), 0x1.fep127F);
    const auto odd = hn::And(hn::ShiftRight<16>(parts.magnitude), hn::Set(ints, 1));
    const auto rounded =
        hn::ShiftRight<16>(hn::Add(parts.magnitude, hn::Add(odd, hn::Set(ints, 0x7fff))));
    const auto sign = hn::And(hn::ShiftRight<16>(parts.sign), hn::Set(ints, 0x8000));
    StoreWords(hn::Or(rounded, sign), out + i * 2);
  }
  ScalarRowKernels().Store(DType::kBF16, in + i, count - i, out + i * 2);
}

void StoreHalf(const float* HWY_RESTRICT in, size_t count, uint8_t* HWY_RESTRICT out) {
  const FloatTag tag;
  const IntTag ints;
  const size_t lanes = hn::Lanes(tag);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const Parts parts = ClampedParts(hn::LoadU(tag, in + i), 65504.0F);
    // Where the half is subnormal, the sum has its last place as its own.
    const auto shifted = hn::Add(hn::BitCast(tag, parts.magnitude), hn::Set(tag, 0.5F));
    const auto small = hn::Sub(hn::BitCast(ints, shifted), hn::Set(ints, 0x3f000000));
    const auto odd = hn::And(hn::ShiftRight<13>(parts.magnitude), hn::Set(ints, 1));
    const auto rounded = hn::Add(parts.magnitude, hn::Add(odd, hn::Set(ints, 0xfff)));
    const auto large = hn::ShiftRight<13>(hn::Sub(rounded, hn::Set(ints, 0x38000000)));
    const auto is_small = hn::Lt(parts.magnitude, hn::Set(ints, 0x38800000));
    const auto sign = hn::And(hn::ShiftRight<16>(parts.sign), hn::Set(ints, 0x8000));
    StoreWords(hn::Or(hn::IfThenElse(is_small, small, large), sign), out + i * 2);
  }
  ScalarRowKernels().Store(DType::kF16, in + i, count - i, out + i * 2);
}

void LoadBfloat(const uint8_t* HWY_RESTRICT in, size_t count, float* HWY_RESTRICT out) {
  const hn::Rebind<uint16_t, FloatTag> words;
  const size_t lanes = hn::Lanes(FloatTag());
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto bits =
        hn::PromoteTo(IntTag(), hn::LoadU(words, reinterpret_cast<const uint16_t*>(in + i * 2)));
    hn::StoreU(hn::BitCast(FloatTag(), hn::ShiftLeft<16>(bits)), FloatTag(), out + i);
  }
  ScalarRowKernels().Load(DType::kBF16, in + i * 2, count - i, out + i);
}

#endif  // HWY_TARGET != HWY_SCALAR

void FillAll(RowKernels& table) {
#if HWY_TARGET != HWY_SCALAR
  table.unpack = Unpack;
  table.scale_codes = ScaleCodes;
  table.look_up = LookUp;
  table.scale_rows = ScaleRows;
  table.turn = Turn;
  table.advance = Advance;
  table.project = Project;
  table.mix = Mix;
  table.place = Place;
  table.mix_points = MixPoints;
  table.store[static_cast<size_t>(DType::kBF16)] = StoreBfloat;
  table.store[static_cast<size_t>(DType::kF16)] = StoreHalf;
  table.load[static_cast<size_t>(DType::kBF16)] = LoadBfloat;
  table.hadamard = simd::HWY_NAMESPACE::Hadamard;
#endif
}

}  // namespace mnemo::codec::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mnemo::codec {

HWY_EXPORT(FillAll);

namespace {

std::vector<std::pair<SimdLevel, RowKernels>> MakeTables() {
  std::vector<std::pair<SimdLevel, RowKernels>> tables;
  for (const SimdLevel level : SupportedSimdLevels()) {
    RowKernels table = ScalarRowKernels();
    if (level != SimdLevel::kScalar) {
      hwy::ChosenTarget chosen;
      chosen.Update(HighwayTarget(level));
      HWY_DISPATCH_TABLE(FillAll)[chosen.GetIndex()](table);
    }
    tables.emplace_back(level, table);
  }
  return tables;
}

}  // namespace

const RowKernels* FindRowKernels(SimdLevel level) {
  static const auto tables = MakeTables();
  for (const auto& [of, table] : tables) {
    if (of == level) return &table;
  }
  return nullptr;
}

const RowKernels& BestRowKernels() {
  static const RowKernels& best = *FindRowKernels(SupportedSimdLevels().back());
  return best;
}

}  // namespace mnemo::codec
#endif  // HWY_ONCE
