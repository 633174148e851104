#include "storage/codec/principal_axes.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

namespace mnemo {
namespace {

// Pairs of rows whose cosine is at most this count as orthogonal.
constexpr double kOrthogonal = 1e-9;
constexpr int kMostSweeps = 30;

double Dot(std::span<const double> a, std::span<const double> b) {
  // Four sums, so that they need not wait for one another.
  double sums[4] = {};
  size_t i = 0;
  for (; i + 4 <= a.size(); i += 4) {
    for (size_t k = 0; k < 4; ++k) sums[k] += a[i + k] * b[i + k];
  }
  for (; i < a.size(); ++i) sums[0] += a[i] * b[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// Turns two rows in their plane until they are orthogonal. False if they were.
bool Orthogonalize(std::span<double> p, std::span<double> q, double smallest) {
  const double pp = Dot(p, p);
  const double qq = Dot(q, q);
  const double pq = Dot(p, q);
  if (std::abs(pq) <= std::max(kOrthogonal * std::sqrt(pp * qq), smallest)) return false;
  const double zeta = (qq - pp) / (2 * pq);
  const double tangent = (zeta >= 0 ? 1.0 : -1.0) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
  const double cosine = 1 / std::sqrt(1 + tangent * tangent);
  const double sine = cosine * tangent;
  for (size_t i = 0; i < p.size(); ++i) {
    const double was = p[i];
    p[i] = cosine * was - sine * q[i];
    q[i] = sine * was + cosine * q[i];
  }
  return true;
}

// Where the matrix has no variance left, rows are rounding errors: an axis that is
// orthogonal to the `found` first instead, from the unit vectors.
void FillUp(std::vector<float>& axes, uint32_t dimension, uint32_t found, uint32_t count) {
  std::vector<double> axis(dimension);
  for (uint32_t unit = 0; found < count && unit < dimension; ++unit) {
    std::fill(axis.begin(), axis.end(), 0.0);
    axis[unit] = 1;
    // Twice is enough.
    for (int pass = 0; pass < 2; ++pass) {
      for (uint32_t f = 0; f < found; ++f) {
        const float* const other = axes.data() + size_t{f} * dimension;
        double along = 0;
        for (uint32_t i = 0; i < dimension; ++i) along += axis[i] * other[i];
        for (uint32_t i = 0; i < dimension; ++i) axis[i] -= along * other[i];
      }
    }
    const double norm = std::sqrt(Dot(axis, axis));
    if (norm < 0.1) continue;
    for (uint32_t i = 0; i < dimension; ++i) {
      axes[size_t{found} * dimension + i] = static_cast<float>(axis[i] / norm);
    }
    ++found;
  }
}

}  // namespace

PrincipalAxes FindPrincipalAxes(std::vector<double> covariance, uint32_t dimension,
                                uint32_t count) {
  const auto row = [&](uint32_t i) {
    return std::span(covariance).subspan(size_t{i} * dimension, dimension);
  };
  double trace = 0;
  for (uint32_t i = 0; i < dimension; ++i) trace += covariance[size_t{i} * dimension + i];
  // Rows of a covariance turned until they are orthogonal are its axes, each times
  // its variance.
  const double smallest = 1e-26 * trace * trace;
  bool turned = true;
  for (int sweep = 0; turned && sweep < kMostSweeps; ++sweep) {
    turned = false;
    for (uint32_t p = 0; p + 1 < dimension; ++p) {
      for (uint32_t q = p + 1; q < dimension; ++q) {
        turned |= Orthogonalize(row(p), row(q), smallest);
      }
    }
  }
  std::vector<double> norms(dimension);
  for (uint32_t i = 0; i < dimension; ++i) norms[i] = std::sqrt(Dot(row(i), row(i)));
  std::vector<uint32_t> order(dimension);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return norms[a] > norms[b]; });
  PrincipalAxes found{.axes = std::vector<float>(size_t{count} * dimension),
                      .variances = std::vector<double>(count)};
  uint32_t kept = 0;
  for (; kept < count && norms[order[kept]] > 1e-12 * trace; ++kept) {
    const double norm = norms[order[kept]];
    found.variances[kept] = norm;
    std::transform(row(order[kept]).begin(), row(order[kept]).end(),
                   found.axes.begin() + static_cast<ptrdiff_t>(size_t{kept} * dimension),
                   [&](double value) { return static_cast<float>(value / norm); });
  }
  FillUp(found.axes, dimension, kept, count);
  return found;
}

}  // namespace mnemo
