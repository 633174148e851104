// Search over a million vectors and more, in ranges as a context has them.
//
//   bench_ivf BASE.f32 QUERIES.f32 DIMENSION HELD_OUT SUFFIX
//
// BASE and QUERIES are fp32 [n x DIMENSION]; vectors are stored as fp16. Builds
// an IVF segment for each range of 131,072 rows, whose own calibration decides
// how many lists are probed, and measures all queries one by one on one thread.
// The first HELD_OUT of them are compared with an exact scan; a result as near
// as the exact tenth counts as right. Prints one flat JSON object whose keys
// carry SUFFIX.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "index/vector/rerank.h"
#include "index/vector/sealed_segment.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr uint32_t kRangeRows = 131072;
constexpr size_t kResults = 10;

double Seconds(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

// Rows of a file, one after another, so that the fp32 form is never whole in
// memory.
std::string StoreRows(const std::string& path, const VectorShape& shape) {
  std::ifstream file(path, std::ios::binary);
  MNEMO_CHECK(file.good());
  std::vector<float> values(shape.dimension);
  std::string rows;
  while (file.read(reinterpret_cast<char*>(values.data()),
                   static_cast<std::streamsize>(values.size() * sizeof(float)))) {
    MNEMO_CHECK(EncodeRow(shape, values, rows).ok());
  }
  return rows;
}

std::vector<Query> ReadQueries(const std::string& path, const VectorShape& shape) {
  std::ifstream file(path, std::ios::binary);
  std::vector<float> values(shape.dimension);
  std::vector<Query> queries;
  while (file.read(reinterpret_cast<char*>(values.data()),
                   static_cast<std::streamsize>(values.size() * sizeof(float)))) {
    queries.push_back(*Query::Prepare(shape, values));
  }
  return queries;
}

class Ranges {
 public:
  Ranges(const VectorShape& shape, std::string rows) : shape_(shape), rows_(std::move(rows)) {}

  void Build() {
    const uint32_t total = rows();
    for (uint32_t first = 0; first < total; first += kRangeRows) {
      const uint32_t count = std::min(kRangeRows, total - first);
      readers_.push_back(std::make_unique<ContiguousReader>(
          AsBytes(rows_).subspan(first * shape_.row_bytes(), count * shape_.row_bytes()),
          shape_.row_bytes()));
      BuildOptions options;
      options.kind = SegmentKind::kIvf;
      auto segment = BuildSegment(shape_, count, *readers_.back(), nullptr, options, BestKernels());
      MNEMO_CHECK(segment.ok());
      segments_.push_back(*std::move(segment));
    }
  }

  std::vector<Hit> Search(const Query& query, SearchCounters* counters) const {
    TopK best(kResults);
    for (size_t i = 0; i < segments_.size(); ++i) {
      SegmentSearch options;
      options.first_id = i * kRangeRows;
      MNEMO_CHECK(segments_[i]->Search(query, options, *readers_[i], best, counters).ok());
    }
    return best.Take();
  }

  std::vector<Hit> Exact(const Query& query) const {
    TopK best(kResults);
    for (size_t i = 0; i < readers_.size(); ++i) {
      SegmentSearch options;
      options.first_id = i * kRangeRows;
      MNEMO_CHECK(ScanRows(shape_, BestKernels(), query, options, segments_[i]->rows(),
                           *readers_[i], best, nullptr)
                      .ok());
    }
    return best.Take();
  }

  uint32_t rows() const { return static_cast<uint32_t>(rows_.size() / shape_.row_bytes()); }
  double BytesPerToken() const {
    size_t bytes = 0;
    for (const auto& segment : segments_) bytes += segment->memory_bytes();
    return static_cast<double>(bytes) / rows();
  }
  uint32_t effort() const { return segments_.front()->EffortFor(0.95F); }

 private:
  const VectorShape shape_;
  const std::string rows_;
  std::vector<std::unique_ptr<ContiguousReader>> readers_;
  std::vector<std::unique_ptr<SealedSegment>> segments_;
};

double Percentile(std::vector<double> values, double share) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(share * (values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

void Measure(const Ranges& ranges, const std::vector<Query>& queries, size_t held_out,
             const std::string& suffix) {
  std::vector<double> milliseconds;
  SearchCounters counters;
  double right = 0;
  for (size_t q = 0; q < queries.size(); ++q) {
    const auto began = std::chrono::steady_clock::now();
    const std::vector<Hit> found = ranges.Search(queries[q], &counters);
    milliseconds.push_back(Seconds(began) * 1e3);
    if (q >= held_out) continue;
    const float tenth = ranges.Exact(queries[q]).back().score;
    for (const Hit& hit : found) right += hit.score >= tenth ? 1 : 0;
  }
  const char* const s = suffix.c_str();
  const auto each = [&](uint64_t count) { return static_cast<double>(count) / queries.size(); };
  std::printf("  \"recall_%s\": %.4f,\n", s, right / static_cast<double>(held_out * kResults));
  std::printf("  \"search_%s_p50_ms\": %.3f,\n", s, Percentile(milliseconds, 0.5));
  std::printf("  \"search_%s_p99_ms\": %.3f,\n", s, Percentile(milliseconds, 0.99));
  std::printf("  \"search_%s_codes\": %.0f,\n", s, each(counters.distances));
  std::printf("  \"search_%s_reranked\": %.1f\n}\n", s, each(counters.reranked));
}

}  // namespace
}  // namespace mnemo

int main(int count, char** values) {
  using namespace mnemo;
  if (count != 6) {
    std::fprintf(stderr, "usage: %s BASE.f32 QUERIES.f32 DIMENSION HELD_OUT SUFFIX\n", values[0]);
    return 2;
  }
  const VectorShape shape{static_cast<uint32_t>(std::stoul(values[3])), ElementType::kFloat16,
                          Metric::kL2};
  const std::string suffix = values[5];
  Ranges ranges(shape, StoreRows(values[1], shape));
  const auto began = std::chrono::steady_clock::now();
  ranges.Build();
  std::printf("{\n  \"build_%s_tokens_per_second\": %.0f,\n", suffix.c_str(),
              ranges.rows() / Seconds(began));
  std::printf("  \"index_%s_bytes_per_token\": %.2f,\n", suffix.c_str(), ranges.BytesPerToken());
  std::printf("  \"search_%s_effort\": %u,\n", suffix.c_str(), ranges.effort());
  const std::vector<Query> queries = ReadQueries(values[2], shape);
  Measure(ranges, queries, std::min(queries.size(), static_cast<size_t>(std::stoul(values[4]))),
          suffix);
}
