#include "index/vector/ivf_segment.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "index/vector/calibration.h"
#include "index/vector/k_means.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr uint32_t kEfforts[] = {1,  2,   3,   4,   6,   8,   12,  16,   24,   32,   48,   64,
                                 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096};
constexpr size_t kCalibratedResults = 10;
// RaBitQ's epsilon_0: a row is given up when it would have to be this many
// standard deviations nearer than its code says.
constexpr float kSureDeviations = 1.9F;
constexpr uint32_t kPointsPerList = 64;
constexpr size_t kTrainingBytes = size_t{256} << 20;
constexpr uint32_t kMinRowsPerList = 32;

bool IsCancelled(const std::atomic<bool>* cancelled) {
  return cancelled != nullptr && cancelled->load(std::memory_order_relaxed);
}

uint32_t ChooseLists(uint32_t nodes, uint32_t wanted) {
  const double lists = wanted > 0 ? wanted : std::sqrt(static_cast<double>(nodes)) / 1.4;
  return std::clamp(static_cast<uint32_t>(lists), 1U, std::max(1U, nodes / kMinRowsPerList));
}

std::vector<uint32_t> SizesOf(std::span<const uint32_t> list_of_node, uint32_t lists) {
  std::vector<uint32_t> sizes(lists);
  for (const uint32_t list : list_of_node) ++sizes[list];
  return sizes;
}

// Nearest of `centroids` to single vectors.
class Assigner {
 public:
  Assigner(const VectorShape& shape, std::span<const float> centroids, const Kernels& kernels)
      : dimension_(shape.dimension),
        score_(kernels.ScoreRows(Metric::kL2, ElementType::kFloat32)),
        rows_(centroids.size() / shape.dimension),
        scores_(rows_.size()) {
    for (size_t i = 0; i < rows_.size(); ++i) {
      rows_[i] = reinterpret_cast<const uint8_t*>(centroids.data() + i * dimension_);
    }
  }
  uint32_t Nearest(const float* values) {
    score_(values, rows_.data(), rows_.size(), dimension_, scores_.data());
    return static_cast<uint32_t>(std::max_element(scores_.begin(), scores_.end()) -
                                 scores_.begin());
  }

 private:
  size_t dimension_;
  ScoreRowsFn score_;
  std::vector<const uint8_t*> rows_;
  std::vector<float> scores_;
};

}  // namespace

IvfSegment::IvfSegment(const VectorShape& shape, RowMap map, uint64_t seed,
                       std::vector<float> centroids, std::vector<uint32_t> list_sizes,
                       const Kernels& kernels)
    : shape_(shape),
      map_(std::move(map)),
      seed_(seed),
      kernels_(kernels),
      centroids_(std::move(centroids)),
      list_sizes_(std::move(list_sizes)),
      node_begin_{0},
      nodes_(map_.nodes()),
      codes_(shape, seed, list_sizes_, kernels) {
  for (const uint32_t size : list_sizes_) node_begin_.push_back(node_begin_.back() + size);
}

absl::StatusOr<std::unique_ptr<SealedSegment>> IvfSegment::Build(
    const VectorShape& shape, uint32_t rows, const VectorReader& reader, const RowSet* deleted,
    const BuildOptions& options, const Kernels& kernels) {
  RowMap map(rows, deleted);
  const BuildInput input(shape, map, reader, options.cancelled, kernels);
  const uint32_t lists = ChooseLists(map.nodes(), options.ivf.lists);
  MNEMO_ASSIGN_OR_RETURN(std::vector<float> centroids, Train(shape, lists, input, options));

  std::vector<uint32_t> list_of_node(map.nodes());
  Assigner assigner(shape, centroids, kernels);
  MNEMO_RETURN_IF_ERROR(input.ForEach(0, map.nodes(), [&](uint32_t node, float* values) {
    if (shape.metric == Metric::kCosine) Normalize(values, shape.dimension);
    list_of_node[node] = assigner.Nearest(values);
  }));
  std::unique_ptr<IvfSegment> segment(new IvfSegment(shape, map, options.seed, std::move(centroids),
                                                     SizesOf(list_of_node, lists), kernels));
  MNEMO_RETURN_IF_ERROR(segment->Fill(input, list_of_node));
  if (options.calibration_queries > 0 && map.nodes() > 1) {
    const std::vector<uint32_t> sample = input.Sample(options.calibration_queries);
    std::vector<RowId> self;
    MNEMO_ASSIGN_OR_RETURN(const std::vector<Query> queries, input.Queries(sample, &self));
    MNEMO_RETURN_IF_ERROR(
        segment->CalibrateWith(queries, kCalibratedResults, self, reader, options.cancelled));
  }
  return segment;
}

absl::StatusOr<std::vector<float>> IvfSegment::Train(const VectorShape& shape, uint32_t lists,
                                                     const BuildInput& input,
                                                     const BuildOptions& options) {
  const size_t affordable = kTrainingBytes / (sizeof(float) * shape.dimension);
  const size_t wanted = std::min<size_t>(size_t{lists} * kPointsPerList, affordable);
  const std::vector<uint32_t> sample =
      input.Sample(static_cast<uint32_t>(std::max<size_t>(wanted, lists)));
  // Nothing but deleted rows: a list needs a centroid all the same.
  if (sample.empty()) return std::vector<float>(shape.dimension);
  std::vector<float> points;
  points.reserve(sample.size() * shape.dimension);
  MNEMO_RETURN_IF_ERROR(input.ForEach(sample, [&](uint32_t, float* values) {
    if (shape.metric == Metric::kCosine) Normalize(values, shape.dimension);
    points.insert(points.end(), values, values + shape.dimension);
  }));
  return TrainCentroids(points, shape.dimension, lists, options.ivf.iterations, options.seed);
}

absl::Status IvfSegment::Fill(const BuildInput& input, std::span<const uint32_t> list_of_node) {
  std::vector<uint32_t> filled(lists());
  std::vector<float> scratch(size_t{2} * codes_.padded());
  return input.ForEach(0, map_.nodes(), [&](uint32_t node, float* values) {
    if (shape_.metric == Metric::kCosine) Normalize(values, shape_.dimension);
    const uint32_t list = list_of_node[node];
    const uint32_t entry = filled[list]++;
    nodes_[node_begin_[list] + entry] = node;
    codes_.Encode(list, entry, values, Centroid(list), scratch.data());
  });
}

size_t IvfSegment::memory_bytes() const {
  return sizeof(*this) + map_.memory_bytes() + centroids_.size() * sizeof(float) +
         (list_sizes_.size() + node_begin_.size()) * sizeof(uint32_t) + nodes_.bytes() +
         codes_.memory_bytes();
}

uint32_t IvfSegment::EffortFor(float target_recall) const {
  const MutexLock lock(calibration_);
  const uint32_t effort = curve_.EffortFor(target_recall);
  // Without calibration: an eighth of all.
  return effort > 0 ? effort : std::max(8U, lists() / 8);
}

std::vector<IvfSegment::Probe> IvfSegment::RankLists(const Query& query) const {
  constexpr size_t kBatch = 64;
  const ScoreRowsFn l2 = kernels_.ScoreRows(Metric::kL2, ElementType::kFloat32);
  const ScoreRowsFn product = kernels_.ScoreRows(Metric::kInnerProduct, ElementType::kFloat32);
  std::vector<Probe> probes(lists());
  std::array<const uint8_t*, kBatch> rows;
  std::array<float, kBatch> distances;
  std::array<float, kBatch> products{};
  for (uint32_t begin = 0; begin < lists(); begin += kBatch) {
    const size_t count = std::min<size_t>(kBatch, lists() - begin);
    for (size_t i = 0; i < count; ++i) {
      rows[i] = reinterpret_cast<const uint8_t*>(Centroid(static_cast<uint32_t>(begin + i)));
    }
    l2(query.values(), rows.data(), count, shape_.dimension, distances.data());
    if (shape_.metric != Metric::kL2) {
      product(query.values(), rows.data(), count, shape_.dimension, products.data());
    }
    for (size_t i = 0; i < count; ++i) {
      Probe& probe = probes[begin + i];
      probe.list = static_cast<uint32_t>(begin + i);
      probe.distance = std::sqrt(-distances[i]);
      probe.base = shape_.metric == Metric::kL2 ? distances[i] : products[i];
      probe.nearness = shape_.metric == Metric::kInnerProduct ? products[i] : distances[i];
    }
  }
  std::sort(probes.begin(), probes.end(), [](const Probe& a, const Probe& b) {
    return a.nearness != b.nearness ? a.nearness > b.nearness : a.list < b.list;
  });
  return probes;
}

// Goes through lists and offers what may be among the k nearest.
class IvfSegment::Scan {
 public:
  Scan(const IvfSegment& segment, const Query& query, const SegmentSearch& options,
       const TopK& best, Candidates& candidates)
      : segment_(segment),
        filter_(options.filter),
        first_id_(options.first_id),
        candidates_(candidates),
        least_(best.bound()) {
    segment.codes_.MakeQuery(query, query_);
  }

  void List(const Probe& probe) {
    const uint32_t size = segment_.list_sizes_[probe.list];
    const uint32_t* const nodes = segment_.nodes_.data() + segment_.node_begin_[probe.list];
    const size_t first_block = segment_.codes_.list_begin(probe.list);
    std::array<float, kBlockCodes> scores;
    for (uint32_t begin = 0; begin < size; begin += kBlockCodes) {
      const uint32_t count = std::min<uint32_t>(kBlockCodes, size - begin);
      uint32_t passing = Passing(nodes + begin, count);
      if (passing == 0) continue;
      passed_ += std::popcount(passing);
      const size_t block = first_block + begin / kBlockCodes;
      segment_.codes_.Estimate(query_, block, scores.data());
      const float least = std::max(least_, candidates_.least());
      for (; passing != 0; passing &= passing - 1) {
        const auto i = static_cast<uint32_t>(std::countr_zero(passing));
        const float score = probe.base + scores[i];
        const float error =
            kSureDeviations * probe.distance * segment_.codes_.Factors(block, i).error;
        if (score + error < least) continue;
        candidates_.Offer({score, error, first_id_ + segment_.map_.RowOf(nodes[begin + i])});
      }
    }
    scanned_ += size;
  }

  // Bit i: the filter lets node i of a block through.
  uint32_t Passing(const uint32_t* nodes, uint32_t count) const {
    static_assert(kBlockCodes == 32);
    if (filter_ == nullptr) return count == 32 ? ~0U : (1U << count) - 1;
    uint32_t passing = 0;
    for (uint32_t i = 0; i < count; ++i) {
      passing |= static_cast<uint32_t>(filter_->Contains(segment_.map_.RowOf(nodes[i]))) << i;
    }
    return passing;
  }

  // Rows looked at that the filter lets through, and all.
  uint64_t passed() const { return passed_; }
  uint64_t scanned() const { return scanned_; }

 private:
  const IvfSegment& segment_;
  const RowSet* const filter_;
  const uint64_t first_id_;
  Candidates& candidates_;
  const float least_;  // a score that the best are known to reach
  BitQuery query_;
  uint64_t passed_ = 0;
  uint64_t scanned_ = 0;
};

absl::Status IvfSegment::ScanLists(const Query& query, const SegmentSearch& options,
                                   const TopK& best, Candidates& candidates,
                                   SearchCounters* counters) const {
  const uint32_t effort = options.nprobe > 0 ? options.nprobe : EffortFor(options.target_recall);
  // So many rows are in `effort` lists on average. A filter makes the search go
  // on until as many have passed; so does a k that needs more.
  const uint64_t enough =
      std::max<uint64_t>(uint64_t{map_.nodes()} * effort / lists(), uint64_t{2} * best.k());
  const double share = options.filter == nullptr || map_.nodes() == 0
                           ? 1
                           : static_cast<double>(map_.CountIn(*options.filter)) / map_.nodes();
  Scan scan(*this, query, options, best, candidates);
  uint32_t probed = 0;
  bool scan_all = false;
  for (const Probe& probe : RankLists(query)) {
    if (IsCancelled(options.cancelled)) return absl::CancelledError("search cancelled");
    if (probed >= effort && !scan_all) {
      // Far fewer have passed than their share: what the filter keeps lies away
      // from the query, where the order of the lists says little.
      scan_all = static_cast<double>(scan.passed()) < scan.scanned() * share / 2;
      const bool is_short = options.filter != nullptr || scan.passed() < uint64_t{2} * best.k();
      if (!scan_all && !(is_short && scan.passed() < enough)) break;
    }
    scan.List(probe);
    ++probed;
  }
  if (counters != nullptr) counters->distances += scan.scanned();
  return absl::OkStatus();
}

absl::Status IvfSegment::Search(const Query& query, const SegmentSearch& options,
                                const VectorReader& reader, TopK& best,
                                SearchCounters* counters) const {
  MNEMO_RETURN_IF_ERROR(CheckSearch(shape_, query, options));
  if (options.candidates != nullptr) {
    return ScanLists(query, options, best, *options.candidates, counters);
  }
  Candidates own(best.k());
  MNEMO_RETURN_IF_ERROR(ScanLists(query, options, best, own, counters));
  const auto read = [&](std::span<const uint64_t> ids, ReadScratch& scratch,
                        std::span<const uint8_t*> out) {
    std::vector<RowId> rows;
    rows.reserve(ids.size());
    for (const uint64_t id : ids) rows.push_back(static_cast<RowId>(id - options.first_id));
    return reader.Read(rows, scratch, out);
  };
  return Confirm(shape_, kernels_, query, own, read, options.cancelled, best, counters);
}

absl::Status IvfSegment::Calibrate(std::span<const Query> queries, size_t k,
                                   const VectorReader& reader, const std::atomic<bool>* cancelled) {
  return CalibrateWith(queries, k, {}, reader, cancelled);
}

absl::Status IvfSegment::CalibrateWith(std::span<const Query> queries, size_t k,
                                       std::span<const RowId> self, const VectorReader& reader,
                                       const std::atomic<bool>* cancelled) {
  std::vector<uint32_t> efforts;
  for (const uint32_t effort : kEfforts) {
    if (effort < lists()) efforts.push_back(effort);
  }
  efforts.push_back(lists());
  CalibrationTask task;
  task.queries = queries;
  task.k = k;
  task.efforts = efforts;
  task.map = &map_;
  task.self = self;
  task.cancelled = cancelled;
  const auto search = [&](const Query& query, uint32_t effort, TopK& found) {
    SegmentSearch options;
    options.nprobe = effort;
    options.cancelled = cancelled;
    return Search(query, options, reader, found, nullptr);
  };
  MNEMO_ASSIGN_OR_RETURN(EffortCurve curve, MeasureEfforts(shape_, kernels_, task, reader, search));
  const MutexLock lock(calibration_);
  curve_ = std::move(curve);
  return absl::OkStatus();
}

}  // namespace mnemo
