#include "index/vector/k_means.h"

#include <faiss/Clustering.h>
#include <faiss/IndexFlat.h>

#include <exception>

#include "absl/strings/str_cat.h"

// Of gcc's OpenMP, which FAISS is built over. clang has no header for it, and
// gcc's is not one that clang reads.
extern "C" {
int omp_get_max_threads(void);
void omp_set_num_threads(int threads);
}

namespace mnemo {
namespace {

// FAISS and OpenBLAS use as many threads as the calling thread allows.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

}  // namespace

absl::StatusOr<std::vector<float>> TrainCentroids(std::span<const float> points, uint32_t dimension,
                                                  uint32_t count, uint32_t iterations,
                                                  uint64_t seed) {
  const OneThread one;
  try {
    faiss::ClusteringParameters parameters;
    parameters.niter = static_cast<int>(iterations);
    parameters.seed = static_cast<int>(seed & 0x7fffffff);
    // The caller chose the points.
    parameters.min_points_per_centroid = 1;
    parameters.max_points_per_centroid = 1 << 20;
    faiss::Clustering clustering(static_cast<int>(dimension), static_cast<int>(count), parameters);
    faiss::IndexFlatL2 assigner(dimension);
    clustering.train(static_cast<faiss::Index::idx_t>(points.size() / dimension), points.data(),
                     assigner);
    return std::move(clustering.centroids);
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("FAISS k-means: ", error.what()));
  }
}

}  // namespace mnemo
