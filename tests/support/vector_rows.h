// Vectors as tests want them: clustered, like those of a model, and repeatable.
#pragma once

#include <random>
#include <set>
#include <string>
#include <vector>

#include "index/vector/query.h"
#include "index/vector/rerank.h"
#include "index/vector/segment.h"
#include "index/vector/vector_types.h"
#include "tests/support/status_matchers.h"

namespace mnemo {

// A mixture of Gaussians off the origin, with one coordinate far greater than
// the others and norms that differ by row.
class ClusteredVectors {
 public:
  ClusteredVectors(uint32_t dimension, uint64_t seed) : dimension_(dimension), random_(seed) {
    for (std::vector<float>& centre : centres_) {
      centre = Normal(1.0F);
      centre[0] += 30;
    }
  }

  std::vector<float> Next() {
    const std::vector<float>& centre = centres_[random_() % centres_.size()];
    std::vector<float> values = Normal(0.7F);
    const float size = 0.5F + static_cast<float>(random_() % 1000) / 1000;
    for (uint32_t i = 0; i < dimension_; ++i) values[i] = size * (values[i] + centre[i]);
    return values;
  }

  std::string Rows(const VectorShape& shape, size_t count) {
    std::string rows;
    for (size_t i = 0; i < count; ++i) EXPECT_OK(EncodeRow(shape, Next(), rows));
    return rows;
  }

  std::vector<Query> Queries(const VectorShape& shape, size_t count) {
    std::vector<Query> queries;
    for (size_t i = 0; i < count; ++i) queries.push_back(*Query::Prepare(shape, Next()));
    return queries;
  }

 private:
  std::vector<float> Normal(float deviation) {
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> values(dimension_);
    for (float& value : values) value = normal(random_);
    return values;
  }

  uint32_t dimension_;
  std::mt19937_64 random_;
  std::vector<std::vector<float>> centres_ = std::vector<std::vector<float>>(12);
};

// A random share of `rows` rows, at least one.
inline RowSet RandomRowSet(uint32_t rows, double share, uint64_t seed) {
  std::mt19937_64 random(seed);
  RowSet set(rows);
  const auto wanted = std::max<uint32_t>(1, static_cast<uint32_t>(share * rows));
  for (uint32_t added = 0; added < wanted;) {
    const RowId row = static_cast<RowId>(random() % rows);
    added += set.Contains(row) ? 0 : 1;
    set.Add(row);
  }
  return set;
}

// The exact answer, on plain C++ kernels.
inline std::vector<Hit> ExactHits(const VectorShape& shape, const Query& query,
                                  const SegmentSearch& options, uint32_t rows,
                                  const VectorReader& reader, size_t k) {
  TopK best(k);
  EXPECT_OK(ScanRows(shape, **FindKernels(SimdLevel::kScalar), query, options, rows, reader, best,
                     nullptr));
  return best.Take();
}

// Of the ids in `expected`, the share that is in `found`.
inline double RecallOf(const std::vector<Hit>& found, const std::vector<Hit>& expected) {
  if (expected.empty()) return 1;
  std::set<uint64_t> ids;
  for (const Hit& hit : found) ids.insert(hit.id);
  size_t right = 0;
  for (const Hit& hit : expected) right += ids.count(hit.id);
  return static_cast<double>(right) / static_cast<double>(expected.size());
}

}  // namespace mnemo
