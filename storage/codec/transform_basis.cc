#include "storage/codec/transform_basis.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>

#include "storage/base/half.h"
#include "storage/codec/row_kernels.h"

namespace mnemo::codec {
namespace {

// Axes have norm 1, but for rounding to fp16.
constexpr float kLargestAxis = 1.01F;

bool AreWithin(std::span<const int16_t> values, int most) {
  return std::all_of(values.begin(), values.end(),
                     [=](int16_t value) { return value >= -most && value <= most; });
}

template <typename T>
bool ReadNumbers(ByteReader& reader, uint64_t count, std::vector<T>& into) {
  const ByteView bytes = reader.Take(count * sizeof(T));
  if (!reader.ok()) return false;
  into.resize(count);
  CopyInto(bytes, into.data());
  return true;
}

template <typename T>
void AppendNumbers(std::string& out, std::span<const T> numbers) {
  out.append(reinterpret_cast<const char*>(numbers.data()), numbers.size_bytes());
}

bool ReadAxes(ByteReader& reader, uint64_t heads, uint32_t dimension, std::vector<float>& axes) {
  const ByteView bytes = reader.Take(heads * dimension * dimension * sizeof(uint16_t));
  if (!reader.ok()) return false;
  const size_t apart = PaddedDimension(dimension);
  axes.assign(heads * dimension * apart, 0);
  const uint8_t* at = bytes.data();
  for (uint64_t row = 0; row < heads * dimension; ++row) {
    for (uint32_t i = 0; i < dimension; ++i, at += sizeof(uint16_t)) {
      const float value = HalfToFloat(LoadLittle<uint16_t>(at));
      if (!(std::abs(value) <= kLargestAxis)) return false;
      axes[row * apart + i] = value;
    }
  }
  return true;
}

std::optional<SymbolTable> ReadTable(ByteReader& reader, size_t symbols) {
  std::vector<uint16_t> frequencies;
  if (!ReadNumbers(reader, symbols, frequencies)) return std::nullopt;
  if (!AreFrequencies(frequencies)) return std::nullopt;
  return SymbolTable(frequencies);
}

}  // namespace

std::optional<SpreadClass> ClassOf(int spread, int step) {
  constexpr int kLevels = kLevelsAnOctave / 4;
  // To the nearest quarter of an octave; the shift rounds down.
  const int ratio = (spread - step + kLevels / 2) >> 2;
  if (ratio < kNarrowest) return std::nullopt;
  if (ratio <= kWidest) return SpreadClass{static_cast<size_t>(ratio - kNarrowest), 0};
  const int raw_bits = std::min<int>((ratio - kWidest + 3) / 4, kMostRawBits);
  const int left = std::min(ratio - 4 * raw_bits, kWidest);
  return SpreadClass{static_cast<size_t>(left - kNarrowest), static_cast<uint8_t>(raw_bits)};
}

const float* TransformBasis::axes_of(size_t head) const {
  return axes.data() + head * dimension * PaddedDimension(dimension);
}

const int16_t* TransformBasis::paired_axes_of(size_t head) const {
  return paired_axes.data() + head * ((dimension + 1) / 2) * 2 * PaddedDimension(dimension);
}

void TransformBasis::PairAxes() {
  const size_t padded = PaddedDimension(dimension);
  const size_t pairs = (dimension + 1) / 2;
  const size_t heads = axes.size() / (dimension * padded);
  // Where there is one axis too few for pairs, it has zeros beside it.
  paired_axes.assign(heads * pairs * 2 * padded, 0);
  for (size_t head = 0; head < heads; ++head) {
    const float* axis = axes_of(head);
    for (size_t c = 0; c < dimension; ++c, axis += padded) {
      int16_t* const pair = paired_axes.data() + (head * pairs + c / 2) * 2 * padded + c % 2;
      for (size_t i = 0; i < padded; ++i) {
        pair[2 * i] = static_cast<int16_t>(std::lround(axis[i] / kAxisUnit));
      }
    }
  }
}

void TransformBasis::Append(std::string& out) const {
  const size_t apart = PaddedDimension(dimension);
  for (size_t row = 0; row < spreads.size(); ++row) {
    for (uint32_t i = 0; i < dimension; ++i) AppendLittle(out, FloatToHalf(axes[row * apart + i]));
  }
  AppendNumbers<int16_t>(out, spreads);
  AppendNumbers<int16_t>(out, units);
  AppendNumbers<int16_t>(out, steps);
  for (const SpreadTable& table : tables) {
    AppendNumbers<int8_t>(out, table.inward);
    AppendNumbers<uint16_t>(out, table.symbols.frequencies());
  }
  AppendNumbers<uint16_t>(out, gains->frequencies());
}

std::optional<TransformBasis> ReadTransformBasis(ByteReader& reader, uint64_t heads,
                                                 uint32_t dimension) {
  TransformBasis basis{.dimension = dimension};
  if (!ReadAxes(reader, heads, dimension, basis.axes) ||
      !ReadNumbers(reader, heads * dimension, basis.spreads) ||
      !ReadNumbers(reader, heads, basis.units) ||
      !ReadNumbers(reader, heads * kMostTransformBits, basis.steps)) {
    return std::nullopt;
  }
  if (!AreWithin(basis.spreads, kMostLevel) || !AreWithin(basis.units, kMostUnit) ||
      !AreWithin(basis.steps, kMostLevel)) {
    return std::nullopt;
  }
  for (uint64_t head = 0; head < heads; ++head) {
    const auto first = basis.spreads.begin() + static_cast<ptrdiff_t>(head * dimension);
    if (!std::is_sorted(first, first + dimension, std::greater<>())) return std::nullopt;
  }
  for (const int16_t largest : kLargestSymbol) {
    const auto near = static_cast<int8_t>(reader.Little<uint8_t>());
    const auto far = static_cast<int8_t>(reader.Little<uint8_t>());
    std::optional<SymbolTable> symbols = ReadTable(reader, 2 * static_cast<size_t>(largest) + 1);
    if (!symbols) return std::nullopt;
    basis.tables.push_back({*std::move(symbols), {near, far}});
  }
  basis.gains = ReadTable(reader, kGainSymbols);
  if (!basis.gains) return std::nullopt;
  basis.PairAxes();
  return basis;
}

}  // namespace mnemo::codec
