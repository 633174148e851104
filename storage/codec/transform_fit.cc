#include "storage/codec/transform_fit.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>
#include <numeric>

#include "storage/base/half.h"
#include "storage/codec/principal_axes.h"
#include "storage/codec/row_kernels.h"

namespace mnemo::codec {
namespace {

// Of a coordinate that never moves.
constexpr double kLeastSpread = 1e-6;
// What a table expects before it has seen a code.
constexpr double kPriorCodes = 16;

// What the codes of one table were.
struct CodeCounts {
  std::vector<double> codes;  // by symbol
  double near = 0;            // codes +-1
  double near_steps = 0;      // sum of their sizes in steps
  double far = 0;             // codes beyond
  double far_inward = 0;      // sum of how much nearer to 0 than their code they are
};

// Frequencies of `counts` and a little of the prior.
std::vector<uint16_t> Frequencies(std::vector<double> counts) {
  const double sum = std::accumulate(counts.begin(), counts.end(), 0.0);
  const auto symbols = static_cast<double>(counts.size());
  std::vector<uint16_t> made;
  uint32_t total = 0;
  for (const double count : counts) {
    made.push_back(static_cast<uint16_t>(1 + count / sum * (kFrequencySum - symbols)));
    total += made.back();
  }
  *std::max_element(made.begin(), made.end()) += static_cast<uint16_t>(kFrequencySum - total);
  return made;
}

// Bits of a code, averaged over `counts`.
double Entropy(const std::vector<double>& counts, std::span<const uint16_t> frequencies) {
  double bits = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    bits += counts[i] * (kFrequencyBits - std::log2(static_cast<double>(frequencies[i])));
  }
  return bits / std::accumulate(counts.begin(), counts.end(), 0.0);
}

std::vector<CodeCounts> Priors() {
  std::vector<CodeCounts> all(kSpreadTables);
  for (size_t table = 0; table < kSpreadTables; ++table) {
    const double spread = std::exp2((static_cast<double>(table) + kNarrowest) / 4);
    double sum = 0;
    for (int code = -kLargestSymbol[table]; code <= kLargestSymbol[table]; ++code) {
      all[table].codes.push_back(std::exp(-std::abs(code) / (0.7 * spread + 0.1)));
      sum += all[table].codes.back();
    }
    for (double& count : all[table].codes) count *= kPriorCodes / sum;
  }
  return all;
}

int8_t Inward(double steps) {
  return static_cast<int8_t>(std::lround(std::clamp(steps, -0.49, 0.49) * 256));
}

}  // namespace

std::optional<int> HalfOctavesOf(std::span<const float> row) {
  double squares = 0;
  for (const float value : row) squares += double{value} * value;
  if (!(squares > 0)) return std::nullopt;
  return static_cast<int>(std::lround(std::log2(squares / static_cast<double>(row.size()))));
}

float HalfOctaves(int half_octaves) {
  constexpr int kExponentZero = 127;
  constexpr int kMantissaBits = 23;
  const float odd = half_octaves % 2 == 0 ? 1 : std::numbers::sqrt2_v<float>;
  // A decoder asks for every row, so without std::ldexp.
  const int exponent = kExponentZero + (half_octaves >> 1);
  return odd * std::bit_cast<float>(static_cast<uint32_t>(exponent) << kMantissaBits);
}
float Levels(int level) {
  return static_cast<float>(std::exp2(static_cast<double>(level) / kLevelsAnOctave));
}

TransformFit::TransformFit(uint64_t heads, uint32_t dimension, bool values)
    : dimension_(dimension), values_(values), heads_(heads) {
  for (Head& head : heads_) {
    head.products.resize(size_t{dimension} * dimension);
    head.sums.resize(dimension);
  }
}

void TransformFit::Sampled(Head& head, std::span<const float> row) const {
  if (head.seen++ % head.stride != 0) return;
  head.sample.insert(head.sample.end(), row.begin(), row.end());
  if (head.sample.size() < kSampleRows * dimension_) return;
  // Every other one from here on.
  for (size_t i = 1; i < kSampleRows / 2; ++i) {
    std::copy_n(head.sample.begin() + static_cast<ptrdiff_t>(2 * i * dimension_), dimension_,
                head.sample.begin() + static_cast<ptrdiff_t>(i * dimension_));
  }
  head.sample.resize(kSampleRows / 2 * dimension_);
  head.stride *= 2;
}

void TransformFit::Add(uint64_t number, std::span<const float> row) {
  Head& head = heads_[number];
  const std::optional<int> size = HalfOctavesOf(row);
  if (!size) return;
  const double weight = values_ ? std::exp2(-*size) : 1;
  for (uint32_t i = 0; i < dimension_; ++i) {
    const double weighted = weight * row[i];
    double* const products = head.products.data() + size_t{i} * dimension_;
    for (uint32_t j = i; j < dimension_; ++j) products[j] += weighted * row[j];
    head.sums[i] += weighted;
  }
  head.weights += weight;
  head.half_octaves += values_ ? *size : 0;
  ++head.rows;
  Sampled(head, row);
}

std::vector<double> TransformFit::Covariance(const Head& head, std::span<const float> mean) const {
  std::vector<double> made(size_t{dimension_} * dimension_);
  const double rows = std::max<double>(1, static_cast<double>(head.rows));
  for (uint32_t i = 0; i < dimension_; ++i) {
    for (uint32_t j = i; j < dimension_; ++j) {
      const double a = mean[i];
      const double b = mean[j];
      const double about = head.products[size_t{i} * dimension_ + j] - a * head.sums[j] -
                           b * head.sums[i] + head.weights * a * b;
      made[size_t{i} * dimension_ + j] = about / rows;
      made[size_t{j} * dimension_ + i] = about / rows;
    }
  }
  return made;
}

TransformFit::Sample TransformFit::Project(uint64_t number, std::span<const float> mean,
                                           const TransformBasis& basis,
                                           std::vector<double>& gains) const {
  const Head& head = heads_[number];
  const RowKernels& kernels = BestRowKernels();
  const size_t padded = PaddedDimension(dimension_);
  Sample made{.coordinates = {}, .rows = head.sample.size() / dimension_};
  made.coordinates.resize(dimension_ * made.rows);
  std::vector<float> rows(kTileTokens * padded);
  std::vector<float> coordinates(dimension_ * kTileTokens);
  for (size_t first = 0; first < made.rows; first += kTileTokens) {
    const size_t count = std::min(kTileTokens, made.rows - first);
    for (size_t r = 0; r < count; ++r) {
      float* const row = rows.data() + r * padded;
      for (uint32_t i = 0; i < dimension_; ++i) {
        row[i] = head.sample[(first + r) * dimension_ + i] - mean[i];
      }
      const int unit = basis.units[number];
      const int size = values_ ? HalfOctavesOf({row, dimension_}).value_or(unit) : unit;
      const int gain = std::clamp<int>(kNominalGain + size - unit, 0, kGainSymbols - 1);
      ++gains[static_cast<size_t>(gain)];
      for (uint32_t i = 0; i < dimension_; ++i) row[i] /= HalfOctaves(gain - kNominalGain + unit);
    }
    kernels.project(rows.data(), padded, count, basis.axes_of(number), dimension_, padded,
                    coordinates.data());
    for (uint32_t c = 0; c < dimension_; ++c) {
      std::copy_n(coordinates.data() + c * kTileTokens, count,
                  made.coordinates.data() + c * made.rows + first);
    }
  }
  return made;
}

namespace {

// Counts the codes that a coordinate would have in each of the tables.
void Count(std::span<const float> coordinates, int spread, std::vector<CodeCounts>& counts) {
  for (size_t table = 0; table < kSpreadTables; ++table) {
    CodeCounts& into = counts[table];
    const int largest = kLargestSymbol[table];
    const bool narrow = IsNarrow({table, 0});
    for (size_t i = 0; i < coordinates.size(); ++i) {
      // All steps that a table is for.
      const int above = 4 * (static_cast<int>(table) + kNarrowest) - 2 + static_cast<int>(i % 4);
      const float steps = coordinates[i] / Levels(spread - above);
      const int code = std::clamp(CodeOf(steps, narrow), -largest, largest);
      // Both signs alike.
      into.codes[static_cast<size_t>(largest + code)] += 0.5;
      into.codes[static_cast<size_t>(largest - code)] += 0.5;
      if (std::abs(code) == 1) {
        ++into.near;
        into.near_steps += std::abs(steps);
      } else if (code != 0 && std::abs(code) < largest) {
        ++into.far;
        into.far_inward += std::abs(code) - std::abs(steps);
      }
    }
  }
}

// The smallest step, as a level, with which the coordinates take `most` bits or fewer.
int StepFor(std::span<const int16_t> spreads, std::span<const double> bits_of_table, double most) {
  const auto bits_at = [&](int step) {
    double bits = 0;
    for (const int16_t spread : spreads) {
      const std::optional<SpreadClass> of = ClassOf(spread, step);
      if (!of) break;
      bits += bits_of_table[of->table] + of->raw_bits;
    }
    return bits;
  };
  int low = -kMostLevel;
  int high = kMostLevel;
  while (low < high) {
    const int middle = (low + high + 2 * kMostLevel) / 2 - kMostLevel;
    if (bits_at(middle) <= most) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace

TransformBasis TransformFit::Finish(std::span<const float> mean) const {
  TransformBasis basis{.dimension = dimension_};
  const size_t apart = PaddedDimension(dimension_);
  basis.axes.assign(heads_.size() * dimension_ * apart, 0);
  std::vector<CodeCounts> counts = Priors();
  // A little of each: tables have no code that cannot be.
  std::vector<double> gains(kGainSymbols, 1.0 / kGainSymbols);
  for (size_t head = 0; head < heads_.size(); ++head) {
    const std::span<const float> head_mean = mean.subspan(head * dimension_, dimension_);
    const PrincipalAxes found =
        FindPrincipalAxes(Covariance(heads_[head], head_mean), dimension_, dimension_);
    float* const axes = basis.axes.data() + head * dimension_ * apart;
    for (uint32_t c = 0; c < dimension_; ++c) {
      for (uint32_t i = 0; i < dimension_; ++i) {
        // As it will be read.
        axes[c * apart + i] = HalfToFloat(FloatToHalf(found.axes[size_t{c} * dimension_ + i]));
      }
      const double spread = std::max(kLeastSpread, std::sqrt(found.variances[c]));
      basis.spreads.push_back(static_cast<int16_t>(std::clamp<long>(
          std::lround(kLevelsAnOctave * std::log2(spread)), -kMostLevel, kMostLevel)));
    }
    const double rows = std::max<double>(1, static_cast<double>(heads_[head].rows));
    basis.units.push_back(static_cast<int16_t>(
        std::clamp<long>(std::lround(heads_[head].half_octaves / rows), -kMostUnit, kMostUnit)));
    const Sample sample = Project(head, head_mean, basis, gains);
    for (uint32_t c = 0; c < dimension_; ++c) {
      if (!(found.variances[c] > kLeastSpread * kLeastSpread)) break;
      Count({sample.coordinates.data() + c * sample.rows, sample.rows},
            basis.spreads[head * dimension_ + c], counts);
    }
  }
  std::array<double, kSpreadTables> bits = {};
  for (size_t table = 0; table < kSpreadTables; ++table) {
    const CodeCounts& of = counts[table];
    basis.tables.push_back({SymbolTable(Frequencies(of.codes)),
                            {Inward(1 - (of.near > 0 ? of.near_steps / of.near : 1)),
                             Inward(of.far > 0 ? of.far_inward / of.far : 0)}});
    bits[table] = Entropy(of.codes, basis.tables.back().symbols.frequencies());
  }
  basis.gains.emplace(Frequencies(gains));
  const double gain_bits = Entropy(gains, basis.gains->frequencies());
  for (size_t head = 0; head < heads_.size(); ++head) {
    for (uint32_t rate = 1; rate <= kMostTransformBits; ++rate) {
      const std::span<const int16_t> spreads(basis.spreads);
      basis.steps.push_back(static_cast<int16_t>(StepFor(
          spreads.subspan(head * dimension_, dimension_), bits, rate * dimension_ - gain_bits)));
    }
  }
  basis.PairAxes();
  return basis;
}

}  // namespace mnemo::codec
