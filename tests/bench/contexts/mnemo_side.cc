// Our sealed HNSW segment, over vectors stored as fp16.
//
// Before it answers for passes, it prints one line more than its peers: recall@10
// and microseconds a query under filters that keep 50, 10, 1 and 0.1 % of the rows
// at random, at the effort that the segment chose for a recall of RECALL, and
// without a filter.
#include <memory>
#include <random>
#include <string>

#include "index/vector/rerank.h"
#include "index/vector/sealed_segment.h"
#include "storage/base/status_macros.h"
#include "tests/bench/contexts/side.h"

namespace {

using bench_side::kResults;
using bench_side::Options;

class MnemoSide final : public bench_side::Side {
 public:
  void Build(const std::vector<float>& base, const Options& options) override {
    shape_ = {static_cast<uint32_t>(options.dimension), mnemo::ElementType::kFloat16,
              mnemo::Metric::kL2};
    const size_t rows = base.size() / options.dimension;
    for (size_t row = 0; row < rows; ++row) {
      MNEMO_CHECK(
          mnemo::EncodeRow(shape_, {&base[row * options.dimension], options.dimension}, stored_)
              .ok());
    }
    reader_ =
        std::make_unique<mnemo::ContiguousReader>(mnemo::AsBytes(stored_), shape_.row_bytes());
    mnemo::BuildOptions build;
    build.hnsw.links = static_cast<uint32_t>(options.links);
    build.hnsw.ef_construction = static_cast<uint32_t>(options.ef_construction);
    auto segment = mnemo::BuildSegment(shape_, static_cast<uint32_t>(rows), *reader_, nullptr,
                                       build, mnemo::BestKernels());
    MNEMO_CHECK(segment.ok());
    segment_ = *std::move(segment);
    target_recall_ = static_cast<float>(options.recall);
  }

  void Search(const float* query, int ef, int64_t* ids) override {
    const auto prepared = mnemo::Query::Prepare(shape_, {query, shape_.dimension});
    mnemo::SegmentSearch search;
    search.ef_search = static_cast<uint32_t>(ef);
    for (const mnemo::Hit& hit : Search(*prepared, search)) *ids++ = static_cast<int64_t>(hit.id);
  }

  // `values` [n x dimension].
  void PrintFiltered(const std::vector<float>& values) {
    std::vector<mnemo::Query> queries;
    for (size_t at = 0; at < values.size(); at += shape_.dimension) {
      queries.push_back(*mnemo::Query::Prepare(shape_, {&values[at], shape_.dimension}));
    }
    std::printf("{");
    for (const Kept& kept : kKept) {
      mnemo::RowSet rows(segment_->rows());
      std::mt19937 random(kept.per_mille);
      for (uint32_t row = 0; row < segment_->rows(); ++row) {
        if (random() % 1000 < kept.per_mille) rows.Add(row);
      }
      MeasureFiltered(queries, kept.per_mille == 1000 ? nullptr : &rows, kept.name);
    }
    std::printf("\"ef_chosen\": %u}\n", segment_->EffortFor(target_recall_));
    std::fflush(stdout);
  }

 private:
  struct Kept {
    const char* name;
    uint32_t per_mille;
  };
  static constexpr Kept kKept[] = {
      {"chosen", 1000}, {"keep_50", 500}, {"keep_10", 100}, {"keep_1", 10}, {"keep_01", 1}};

  std::vector<mnemo::Hit> Search(const mnemo::Query& query, const mnemo::SegmentSearch& search) {
    mnemo::TopK best(kResults);
    MNEMO_CHECK(segment_->Search(query, search, *reader_, best, nullptr).ok());
    return best.Take();
  }

  // A result as near as the exact tenth counts as right.
  void MeasureFiltered(const std::vector<mnemo::Query>& queries, const mnemo::RowSet* rows,
                       const char* name) {
    const mnemo::SegmentSearch search{.filter = rows, .target_recall = target_recall_};
    std::vector<std::vector<mnemo::Hit>> found;
    const auto began = std::chrono::steady_clock::now();
    for (const mnemo::Query& query : queries) found.push_back(Search(query, search));
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
    size_t right = 0;
    size_t wanted = 0;
    for (size_t q = 0; q < queries.size(); ++q) {
      mnemo::TopK exact(kResults);
      MNEMO_CHECK(mnemo::ScanRows(shape_, mnemo::BestKernels(), queries[q], {.filter = rows},
                                  segment_->rows(), *reader_, exact, nullptr)
                      .ok());
      const std::vector<mnemo::Hit> truth = exact.Take();
      wanted += truth.size();
      for (const mnemo::Hit& hit : found[q]) right += hit.score >= truth.back().score ? 1 : 0;
    }
    std::printf("\"recall_%s\": %.5f, \"us_%s\": %.2f, ", name,
                static_cast<double>(right) / static_cast<double>(wanted), name,
                took.count() / static_cast<double>(queries.size()));
  }

  float target_recall_ = 0;
  mnemo::VectorShape shape_;
  std::string stored_;
  std::unique_ptr<mnemo::ContiguousReader> reader_;
  std::unique_ptr<mnemo::SealedSegment> segment_;
};

}  // namespace

int main(int count, char** values) {
  MnemoSide side;
  const Options options = bench_side::ParseOptions(count, values);
  bench_side::Runner runner(side, options);
  runner.Prepare();
  side.PrintFiltered(bench_side::ReadAll<float>(options.folder + "/queries.f32"));
  runner.Answer();
}
