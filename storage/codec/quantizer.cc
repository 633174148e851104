#include "storage/codec/quantizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <span>
#include <utility>

namespace mnemo::codec {
namespace {

// The positive half of each table, in units of kLevelUnit: the solution of Lloyd's
// conditions to 1e-9, rounded; tests/unit/storage/codec checks them.
constexpr std::array<int16_t, 1> kOneBit = {3268};
constexpr std::array<int16_t, 2> kTwoBits = {1855, 6187};
constexpr std::array<int16_t, 4> kThreeBits = {1004, 3097, 5505, 8814};
constexpr std::array<int16_t, 8> kFourBits = {526, 1589, 2690, 3860, 5146, 6628, 8475, 11193};
constexpr std::array<int16_t, 16> kFiveBits = {270,  811,  1357, 1912, 2478, 3060, 3664,  4296,
                                               4964, 5678, 6456, 7321, 8310, 9493, 11023, 13356};

constexpr double kCompanding = 1.5;
constexpr std::array<uint32_t, 5> kFidelities = {2, 3, 4, 5, 8};
constexpr uint32_t kCells = 256;

void SetLevel(LevelTable& table, size_t code, int16_t units) {
  table.units[code] = units;
  table.values[code] = static_cast<float>(units) * kLevelUnit;
}

LevelTable Symmetric(std::span<const int16_t> half) {
  LevelTable table;
  table.count = static_cast<uint32_t>(2 * half.size());
  for (size_t i = 0; i < half.size(); ++i) {
    SetLevel(table, half.size() + i, half[i]);
    SetLevel(table, half.size() - 1 - i, static_cast<int16_t>(-half[i]));
  }
  return table;
}

double Density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); }
double Below(double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; }

// x of which a share of `below` lies below, by halving.
double Quantile(double below) {
  double low = -10;
  double high = 10;
  for (int step = 0; step < 60; ++step) {
    const double middle = (low + high) / 2;
    (Below(middle) < below ? low : high) = middle;
  }
  return (low + high) / 2;
}

// Where cell `cell` of 256 begins.
double CellBegin(uint32_t cell) {
  if (cell == 0) return -std::numeric_limits<double>::infinity();
  if (cell == kCells) return std::numeric_limits<double>::infinity();
  return kCompanding * Quantile(static_cast<double>(cell) / kCells);
}

LevelTable Centroids(uint32_t bits) {
  LevelTable table;
  table.count = 1U << bits;
  const uint32_t width = kCells / table.count;
  // One half, mirrored: the tail of erfc is more exact than that of 1 - erfc.
  for (uint32_t code = 0; code < table.count / 2; ++code) {
    const double begin = CellBegin(code * width);
    const double end = CellBegin((code + 1) * width);
    const double centroid = (Density(begin) - Density(end)) / (Below(end) - Below(begin));
    const auto units = static_cast<int16_t>(std::lround(centroid / kLevelUnit));
    SetLevel(table, code, units);
    SetLevel(table, table.count - 1 - code, static_cast<int16_t>(-units));
  }
  return table;
}

Thresholds Between(const LevelTable& table) {
  std::vector<float> at;
  for (uint32_t code = 1; code < table.count; ++code) {
    at.push_back((table.values[code - 1] + table.values[code]) / 2);
  }
  return Thresholds(std::move(at));
}

}  // namespace

const LevelTable& LloydMaxLevels(uint32_t bits) {
  static const std::array<LevelTable, 5> tables = {Symmetric(kOneBit), Symmetric(kTwoBits),
                                                   Symmetric(kThreeBits), Symmetric(kFourBits),
                                                   Symmetric(kFiveBits)};
  return tables[bits - 1];
}

const Thresholds& LloydMaxThresholds(uint32_t bits) {
  static const std::array<Thresholds, 5> all = {
      Between(LloydMaxLevels(1)), Between(LloydMaxLevels(2)), Between(LloydMaxLevels(3)),
      Between(LloydMaxLevels(4)), Between(LloydMaxLevels(5))};
  return all[bits - 1];
}

bool IsFidelity(uint32_t bits) {
  return std::find(kFidelities.begin(), kFidelities.end(), bits) != kFidelities.end();
}

const LevelTable& ProgressiveLevels(uint32_t bits) {
  static const std::array<LevelTable, 9> tables = [] {
    std::array<LevelTable, 9> made;
    for (const uint32_t fidelity : kFidelities) made[fidelity] = Centroids(fidelity);
    return made;
  }();
  return tables[bits];
}

const Thresholds& ProgressiveThresholds() {
  static const Thresholds thresholds = [] {
    std::vector<float> at;
    for (uint32_t cell = 1; cell < kCells; ++cell)
      at.push_back(static_cast<float>(CellBegin(cell)));
    return Thresholds(std::move(at));
  }();
  return thresholds;
}

uint8_t Thresholds::CodeOf(float x) const {
  // Without branches: the outcome of each comparison is as good as random.
  size_t code = 0;
  for (size_t half = (at_.size() + 1) / 2; half != 0; half /= 2) {
    code += at_[code + half - 1] <= x ? half : 0;
  }
  return static_cast<uint8_t>(code);
}

}  // namespace mnemo::codec
