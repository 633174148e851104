// Our sealed HNSW segment, over vectors stored as fp16.
#include <memory>
#include <string>

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
  }

  void Search(const float* query, int ef, int64_t* ids) override {
    const auto prepared = mnemo::Query::Prepare(shape_, {query, shape_.dimension});
    mnemo::SegmentSearch search;
    search.ef_search = static_cast<uint32_t>(ef);
    mnemo::TopK best(kResults);
    MNEMO_CHECK(segment_->Search(*prepared, search, *reader_, best, nullptr).ok());
    for (const mnemo::Hit& hit : best.Take()) *ids++ = static_cast<int64_t>(hit.id);
  }

 private:
  mnemo::VectorShape shape_;
  std::string stored_;
  std::unique_ptr<mnemo::ContiguousReader> reader_;
  std::unique_ptr<mnemo::SealedSegment> segment_;
};

}  // namespace

int main(int count, char** values) {
  MnemoSide side;
  bench_side::Runner(side, bench_side::ParseOptions(count, values)).Run();
}
