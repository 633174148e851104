#include "index/vector/hnsw_segment.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "index/vector/build_input.h"
#include "index/vector/calibration.h"
#include "index/vector/hnsw_builder.h"
#include "index/vector/rerank.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr uint32_t kEfforts[] = {8,  12, 16,  20,  24,  32,  40,  48,  64,
                                 80, 96, 128, 192, 256, 384, 512, 768, 1024};
// Without calibration: well above what contextual states need at recall 0.95.
constexpr uint32_t kCautiousBeam = 128;
constexpr size_t kCalibratedResults = 10;
// What a distance between codes may be off by, in standard deviations, before a
// row is missed; and how many rows beyond k are read to make up for it.
constexpr float kSureDeviations = 3;
constexpr size_t kMaxSpareResults = 256;
// Of the nodes that a filter is to let through, how many standard deviations of
// their number are walked beyond.
constexpr double kSurePasses = 2;
// Of a node's links on the ground level, the share that a walk did not visit.
constexpr double kNewLinks = 0.5;

bool IsCancelled(const std::atomic<bool>* cancelled) {
  return cancelled != nullptr && cancelled->load(std::memory_order_relaxed);
}

}  // namespace

HnswSegment::HnswSegment(const VectorShape& shape, RowMap map, uint64_t seed,
                         std::vector<float> centre, HnswGraph graph, const Kernels& kernels)
    : shape_(shape),
      map_(std::move(map)),
      seed_(seed),
      kernels_(kernels),
      codes_(shape, map_.nodes(), seed, std::move(centre), kernels),
      graph_(std::move(graph)),
      scratch_(map_.nodes()) {}

absl::StatusOr<std::unique_ptr<SealedSegment>> HnswSegment::Build(
    const VectorShape& shape, uint32_t rows, const VectorReader& reader, const RowSet* deleted,
    const BuildOptions& options, const Kernels& kernels) {
  RowMap map(rows, deleted);
  const BuildInput input(shape, map, reader, options.cancelled, kernels);
  MNEMO_ASSIGN_OR_RETURN(std::vector<float> centre, input.Centre());
  HnswGraph graph(options.hnsw.links,
                  HnswBuilder::DrawLevels(map.nodes(), options.hnsw.links, options.seed));
  std::unique_ptr<HnswSegment> segment(new HnswSegment(
      shape, std::move(map), options.seed, std::move(centre), std::move(graph), kernels));
  MNEMO_RETURN_IF_ERROR(segment->FillCodes(reader, options.cancelled));
  MNEMO_RETURN_IF_ERROR(segment->BuildGraph(reader, options));
  return segment;
}

absl::Status HnswSegment::FillCodes(const VectorReader& reader,
                                    const std::atomic<bool>* cancelled) {
  std::vector<float> scratch(codes_.padded());
  const BuildInput input(shape_, map_, reader, cancelled, kernels_);
  return input.ForEach(0, map_.nodes(), [&](uint32_t node, float* values) {
    codes_.Encode(node, values, scratch.data());
  });
}

absl::Status HnswSegment::BuildGraph(const VectorReader& reader, const BuildOptions& options) {
  HnswBuilder builder(codes_, options.hnsw, graph_);
  const uint32_t nodes = map_.nodes();
  // The queries of the calibration go in last, so that until then they are
  // queries that the graph does not know.
  const uint32_t held_out = std::min(options.calibration_queries, nodes / 32);
  const uint32_t step = held_out > 0 ? nodes / held_out : 0;
  RowSet left_out(map_.rows());
  std::vector<uint32_t> last;
  for (uint32_t i = 0; i < held_out; ++i) {
    last.push_back(i * step + step / 2);
    left_out.Add(map_.RowOf(last.back()));
  }
  for (uint32_t node = 0; node < nodes; ++node) {
    if (IsCancelled(options.cancelled)) return absl::CancelledError("build cancelled");
    if (!left_out.Contains(map_.RowOf(node))) builder.Insert(node);
  }
  if (held_out > 0) {
    const BuildInput input(shape_, map_, reader, options.cancelled, kernels_);
    MNEMO_ASSIGN_OR_RETURN(const std::vector<Query> queries, input.Queries(last, nullptr));
    MNEMO_RETURN_IF_ERROR(
        CalibrateWith(queries, kCalibratedResults, &left_out, reader, options.cancelled));
  }
  for (const uint32_t node : last) builder.Insert(node);
  return absl::OkStatus();
}

size_t HnswSegment::memory_bytes() const {
  return sizeof(*this) + map_.memory_bytes() + codes_.memory_bytes() + graph_.memory_bytes();
}

uint32_t HnswSegment::EffortFor(float target_recall) const {
  const MutexLock lock(calibration_);
  const uint32_t effort = curve_.EffortFor(target_recall);
  return effort > 0 ? effort : kCautiousBeam;
}

uint32_t HnswSegment::Beam(const SegmentSearch& options, size_t k) const {
  size_t beam = options.ef_search;
  if (beam == 0) {
    beam = EffortFor(options.target_recall);
    // Measured for fewer results: what lies behind them is as hard to find.
    if (k > kCalibratedResults) beam += k - kCalibratedResults;
  }
  return static_cast<uint32_t>(std::min<size_t>(std::max(beam, k), std::max(map_.nodes(), 1U)));
}

absl::Status HnswSegment::WalkGraph(uint32_t beam, const std::atomic<bool>* cancelled,
                                    WalkScratch& scratch) const {
  const GraphView view{graph_, codes_};
  const uint32_t entry = graph_.entry();
  Candidate from{DistanceOf(view, scratch.query, entry, scratch), entry};
  for (uint8_t level = graph_.top_level(); level > 0; --level) {
    from = Descend(view, scratch.query, from, level, scratch);
  }
  if (!Walk(view, scratch.query, from, 0, beam, cancelled, scratch)) {
    return absl::CancelledError("search cancelled");
  }
  // Fewer than asked for: the graph is in pieces, as many equal vectors make it.
  if (scratch.pool.size() < beam) return ScanCodes(nullptr, beam, cancelled, scratch);
  return absl::OkStatus();
}

absl::Status HnswSegment::ScanCodes(const RowSet* filter, uint32_t beam,
                                    const std::atomic<bool>* cancelled,
                                    WalkScratch& scratch) const {
  constexpr size_t kBatch = 64;
  // Much lies close together where a filter cuts: Choose wants to see more.
  scratch.pool.Reset(static_cast<uint32_t>(beam + kMaxSpareResults));
  size_t count = 0;
  const auto flush = [&] {
    codes_.Distances(scratch.query, {scratch.nodes, count}, scratch.batch, scratch.distances);
    for (size_t i = 0; i < count; ++i) scratch.pool.Insert(scratch.distances[i], scratch.nodes[i]);
    scratch.distances_made += count;
    count = 0;
  };
  for (uint32_t base = 0; base < map_.nodes(); base += kBatch) {
    if (IsCancelled(cancelled)) return absl::CancelledError("search cancelled");
    // A batch of nodes is a word of the filter where nodes are rows.
    if (filter != nullptr && map_.is_identity() && base < filter->size() &&
        filter->words()[base / kBatch] == 0) {
      continue;
    }
    const uint32_t end = std::min<uint32_t>(base + kBatch, map_.nodes());
    for (uint32_t node = base; node < end; ++node) {
      if (filter == nullptr || filter->Contains(map_.RowOf(node))) scratch.nodes[count++] = node;
    }
    if (count + kBatch > ByteCodes::kMaxBatch) flush();
  }
  flush();
  return absl::OkStatus();
}

absl::Status HnswSegment::FindFiltered(const RowSet& filter, uint32_t beam,
                                       const std::atomic<bool>* cancelled,
                                       WalkScratch& scratch) const {
  const uint32_t kept = map_.CountIn(filter);
  scratch.pool.Reset(beam);
  if (kept == 0) return absl::OkStatus();
  // So many that, the filter letting nodes through by chance, hardly ever fewer
  // than `beam` pass.
  const double wanted = beam + kSurePasses * std::sqrt(beam);
  const double wider = static_cast<double>(map_.nodes()) / kept;
  const double walked = wanted * wider * graph_.width(0) * kNewLinks;
  if (walked < kept) {
    MNEMO_RETURN_IF_ERROR(WalkGraph(static_cast<uint32_t>(wanted * wider), cancelled, scratch));
    uint32_t passed = 0;
    for (uint32_t i = 0; i < scratch.pool.size(); ++i) {
      passed += filter.Contains(map_.RowOf(scratch.pool[i].node)) ? 1 : 0;
    }
    // Fewer than their share: what the filter keeps lies away from the query,
    // and the walk has not been there.
    if (passed >= beam) return absl::OkStatus();
  }
  return ScanCodes(&filter, beam, cancelled, scratch);
}

void HnswSegment::Choose(const RowSet* filter, size_t k, WalkScratch& scratch) const {
  scratch.rows.clear();
  float kth = 0;
  for (uint32_t i = 0; i < scratch.pool.size() && scratch.rows.size() < k + kMaxSpareResults; ++i) {
    const Candidate candidate = scratch.pool[i];
    const RowId row = map_.RowOf(candidate.node);
    if (filter != nullptr && !filter->Contains(row)) continue;
    const float error = kSureDeviations * codes_.Error(scratch.query, candidate.node);
    if (scratch.rows.size() >= k && candidate.distance - error > kth) break;
    scratch.rows.push_back(row);
    if (scratch.rows.size() == k) kth = candidate.distance;
  }
}

absl::Status HnswSegment::Search(const Query& query, const SegmentSearch& options,
                                 const VectorReader& reader, TopK& best,
                                 SearchCounters* counters) const {
  MNEMO_RETURN_IF_ERROR(CheckSearch(shape_, query, options));
  if (graph_.entry() == kNoNode) return absl::OkStatus();
  WalkScratchPool::Lease lease(scratch_);
  WalkScratch& scratch = *lease;
  codes_.MakeQuery(query, scratch.query);
  const uint32_t beam = Beam(options, best.k());
  MNEMO_RETURN_IF_ERROR(options.filter == nullptr
                            ? WalkGraph(beam, options.cancelled, scratch)
                            : FindFiltered(*options.filter, beam, options.cancelled, scratch));

  Choose(options.filter, best.k(), scratch);
  if (counters != nullptr) counters->distances += scratch.distances_made;
  return Rerank(shape_, kernels_, query, scratch.rows, options.first_id, reader, scratch.read, best,
                counters);
}

absl::Status HnswSegment::Calibrate(std::span<const Query> queries, size_t k,
                                    const VectorReader& reader,
                                    const std::atomic<bool>* cancelled) {
  return CalibrateWith(queries, k, nullptr, reader, cancelled);
}

absl::Status HnswSegment::CalibrateWith(std::span<const Query> queries, size_t k,
                                        const RowSet* left_out, const VectorReader& reader,
                                        const std::atomic<bool>* cancelled) {
  CalibrationTask task;
  task.queries = queries;
  task.k = k;
  task.efforts = kEfforts;
  task.map = &map_;
  task.left_out = left_out;
  task.cancelled = cancelled;
  const auto search = [&](const Query& query, uint32_t effort, TopK& found) {
    SegmentSearch options;
    options.ef_search = effort;
    options.cancelled = cancelled;
    return Search(query, options, reader, found, nullptr);
  };
  MNEMO_ASSIGN_OR_RETURN(EffortCurve curve, MeasureEfforts(shape_, kernels_, task, reader, search));
  const MutexLock lock(calibration_);
  curve_ = std::move(curve);
  return absl::OkStatus();
}

}  // namespace mnemo
