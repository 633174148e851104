// What the transform codec knows of keys or of values beforehand: a basis for each
// layer and head, how far coordinates spread in it, and how often codes occur.
//
// Part of a calibration (docs/formats/calibration.md). Immutable once made,
// thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/codec/symbol_coder.h"

namespace mnemo::codec {

// Axes are of at most so many dimensions; there are that many squared.
inline constexpr uint32_t kMostAxes = 1024;

// Spreads and steps are 2^(level / 16), kept as levels, so that which table a
// coordinate has is the same on every machine. 2^-32 to 2^32, so that no code's point leaves fp32,
// whatever gain and unit.
inline constexpr int kLevelsAnOctave = 16;
inline constexpr int kMostLevel = 511;

inline constexpr float kAxisUnit = 1.0F / (1 << 14);

// Steps are chosen for 1 to 5 bits a value.
inline constexpr uint32_t kMostTransformBits = 5;

// Coordinates whose spread over the step is alike have a table together: a
// quarter of an octave each, from 2^-2 to 2^2. What spreads less is not coded, and what
// spreads more has its lowest bits as they are.
inline constexpr int kNarrowest = -8;
inline constexpr int kWidest = 8;
inline constexpr size_t kSpreadTables = kWidest - kNarrowest + 1;
// The largest symbol of each table, and the smallest is minus that: six spreads and more.
inline constexpr int16_t kLargestSymbol[kSpreadTables] = {5,  5,  6,  6,  7,  7,  8,  9, 10,
                                                          11, 12, 14, 16, 18, 20, 24, 31};

// A row's step is that of its head times 2^((gain - kNominalGain + unit) / 2).
inline constexpr uint32_t kGainSymbols = 64;
inline constexpr int kNominalGain = 24;
inline constexpr int kMostUnit = 64;  // and at least minus that

struct SpreadTable {
  SymbolTable symbols;
  // Codes stand for points this much nearer to 0, in 1/256 of a step: +-1, and those
  // beyond. Not where a code has raw bits.
  int8_t inward[2];
};

// How a coordinate is coded.
struct SpreadClass {
  size_t table;
  uint8_t raw_bits;
};
// None: it is not.
std::optional<SpreadClass> ClassOf(int spread, int step);

struct TransformBasis {
  uint32_t dimension = 0;
  // Orthonormal rows [layer, head, coordinate], PaddedDimension apart, the one of the largest
  // variance first, zeros behind the dimension.
  std::vector<float> axes;
  // The same to whole numbers of kAxisUnit, as RowKernels::mix_points takes them.
  std::vector<int16_t> paired_axes;
  std::vector<int16_t> spreads;  // levels [layer, head, coordinate], not growing
  std::vector<int16_t> units;    // [layer, head], half octaves
  std::vector<int16_t> steps;    // levels [layer, head, bits - 1]
  std::vector<SpreadTable> tables;
  std::optional<SymbolTable> gains;

  int step(size_t head, uint32_t bits) const { return steps[head * kMostTransformBits + bits - 1]; }
  const float* axes_of(size_t head) const;
  const int16_t* paired_axes_of(size_t head) const;
  // Makes paired_axes of axes.
  void PairAxes();
  void Append(std::string& out) const;
};

// Takes the basis of `heads` heads of all layers from the front of `reader`. None:
// numbers that make no sense, or too few.
std::optional<TransformBasis> ReadTransformBasis(ByteReader& reader, uint64_t heads,
                                                 uint32_t dimension);

}  // namespace mnemo::codec
