// FAISS as Debian packages it.
#include <faiss/IndexHNSW.h>
#include <omp.h>

#include <memory>

#include "tests/bench/contexts/side.h"

namespace {

class FaissSide final : public bench_side::Side {
 public:
  void Build(const std::vector<float>& base, const bench_side::Options& options) override {
    omp_set_num_threads(1);
    index_ = std::make_unique<faiss::IndexHNSWFlat>(static_cast<int>(options.dimension),
                                                    options.links, faiss::METRIC_L2);
    index_->hnsw.efConstruction = options.ef_construction;
    index_->add(static_cast<faiss::Index::idx_t>(base.size() / options.dimension), base.data());
  }

  void Search(const float* query, int ef, int64_t* ids) override {
    float distances[bench_side::kResults];
    index_->hnsw.efSearch = ef;
    index_->search(1, query, bench_side::kResults, distances, ids);
  }

 private:
  std::unique_ptr<faiss::IndexHNSWFlat> index_;
};

}  // namespace

int main(int count, char** values) {
  FaissSide side;
  bench_side::Runner(side, bench_side::ParseOptions(count, values)).Run();
}
