// hnswlib, a library of headers.
#include <hnswlib/hnswlib.h>

#include <memory>

#include "tests/bench/contexts/side.h"

namespace {

class HnswlibSide final : public bench_side::Side {
 public:
  void Build(const std::vector<float>& base, const bench_side::Options& options) override {
    const size_t rows = base.size() / options.dimension;
    space_ = std::make_unique<hnswlib::L2Space>(options.dimension);
    index_ = std::make_unique<hnswlib::HierarchicalNSW<float>>(
        space_.get(), rows, static_cast<size_t>(options.links),
        static_cast<size_t>(options.ef_construction));
    for (size_t row = 0; row < rows; ++row) {
      index_->addPoint(base.data() + row * options.dimension, row);
    }
  }

  void Search(const float* query, int ef, int64_t* ids) override {
    index_->setEf(static_cast<size_t>(ef));
    auto found = index_->searchKnn(query, bench_side::kResults);
    for (; !found.empty(); found.pop()) *ids++ = static_cast<int64_t>(found.top().second);
  }

 private:
  std::unique_ptr<hnswlib::L2Space> space_;
  std::unique_ptr<hnswlib::HierarchicalNSW<float>> index_;
};

}  // namespace

int main(int count, char** values) {
  HnswlibSide side;
  bench_side::Runner(side, bench_side::ParseOptions(count, values)).Run();
}
