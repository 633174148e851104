// A context of millions of tokens in the engine, as the daemon drives it: appended,
// indexed and stored by one thread behind, and searched through the store.
//
//   bench_context_engine BASE.f32 QUERIES.f32 DIMENSION HELD_OUT SUFFIX FOLDER MIB
//
// BASE and QUERIES are fp32 [n x DIMENSION], stored as fp16, metric L2. FOLDER is
// made; one that an earlier run filled from the same BASE is searched as it is.
// MIB is memory.contexts, divided between chunks and segments as the daemon does
// it. The queries go one by one on one thread, twice: the first pass meets cold
// caches; and once with each of four filters, which keep 50, 10, 1 and 0.1 % of the
// tokens by their kind. The first HELD_OUT of them are compared with one
// exact scan; a result as near as the exact tenth counts as right. Prints one
// flat JSON object whose keys carry SUFFIX.
#include <array>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "index/vector/rerank.h"
#include "server/engine/event_hub.h"
#include "server/engine/stored_context_engine.h"
#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/block/block_store.h"
#include "storage/block/space_registry.h"
#include "tests/bench/common/bench_support.h"

namespace mnemo {
namespace {

constexpr size_t kResults = 10;
constexpr uint32_t kBatch = 1024;
const std::string kName = "bench";  // of the context

// A search with a filter: it keeps the tokens of one kind.
struct Filtered {
  const char* suffix;
  TokenKind kind;
  uint32_t per_mille;  // of all tokens
};
constexpr std::array kFiltered = {
    Filtered{"_keep_50", TokenKind::kUser, 500}, Filtered{"_keep_10", TokenKind::kTool, 100},
    Filtered{"_keep_1", TokenKind::kDocument, 10}, Filtered{"_keep_01", TokenKind::kCode, 1}};
// Without a filter, and with each of them.
constexpr size_t kSearches = 1 + kFiltered.size();
const Filtered* FilterOf(size_t search) { return search == 0 ? nullptr : &kFiltered[search - 1]; }

TokenKind KindAt(uint64_t position) {
  uint64_t draw = Checksum64({}, position) % 1000;
  for (const Filtered& filtered : kFiltered) {
    if (draw < filtered.per_mille) return filtered.kind;
    draw -= filtered.per_mille;
  }
  return TokenKind::kSystem;
}

bool Keeps(const Filtered* filtered, uint64_t position) {
  return filtered == nullptr || KindAt(position) == filtered->kind;
}

// Rows of a file, batch by batch.
class Rows {
 public:
  Rows(const std::string& path, uint32_t dimension) : file_(path, std::ios::binary) {
    MNEMO_CHECK(file_.good());
    values_.resize(size_t{kBatch} * dimension);
    dimension_ = dimension;
  }
  // Empty at the end.
  std::span<const float> Next() {
    file_.read(reinterpret_cast<char*>(values_.data()),
               static_cast<std::streamsize>(values_.size() * sizeof(float)));
    const auto count = static_cast<size_t>(file_.gcount()) / sizeof(float) / dimension_;
    return std::span<const float>(values_).first(count * dimension_);
  }

 private:
  std::ifstream file_;
  std::vector<float> values_;
  uint32_t dimension_;
};

class Bench {
 public:
  Bench(uint32_t dimension, const std::string& folder, uint64_t contexts_bytes)
      : dimension_(dimension) {
    BlockStoreOptions options;
    options.directory = folder;
    options.l1_bytes = options.l2_bytes = 64 * kMiB;
    options.disk_cache_bytes = 256 * kMiB;
    options.l3_bytes = 16 * kGiB;
    options.archive_bytes = 16 * kGiB;
    store_ = Require(BlockStore::Open(options, *files_, *clock_, [](const PartEvent&) {}), "open");
    registry_ = Require(SpaceRegistry::Load(store_->state(), *clock_), "spaces");
    spaces_ = std::make_unique<SpaceEngine>(*registry_, *store_, events_);
    const ContextStores stores{
        .sync = store_->ordered_store(Level::kL3, Durability::kSync),
        .interval = store_->ordered_store(Level::kL3, Durability::kInterval)};
    contexts_ =
        std::make_unique<ContextStore>(stores, *clock_,
                                       ContextStoreOptions{.cache_bytes = contexts_bytes / 16 * 15,
                                                           .columns_bytes = contexts_bytes / 16});
    engine_ = std::make_unique<StoredContextEngine>(
        *contexts_, *spaces_, *clock_,
        ContextEngineOptions{.search_memory_bytes = contexts_bytes / 8 * 7});
  }
  ~Bench() {
    engine_.reset();
    Require(store_->Close(), "close");
  }

  // Tokens a second until everything is appended, and until what there is to
  // index is stored.
  void Append(const std::string& path, const char* suffix) {
    ContextSpec spec{.name = kName,
                     .dimension = dimension_,
                     .metric = Metric::kL2,
                     .durability = Durability::kInterval};
    std::printf("{\n");
    const auto created = Require(engine_->Create(call_, spec), "create");
    if (created.info.tokens > 0) return;
    const auto began = BenchClock::now();
    absl::Notification appended;
    std::thread indexer([&] {
      while (true) {
        // Asked before the step: what is appended during it is looked at again.
        const bool last = appended.HasBeenNotified();
        if (Require(engine_->IndexStep(), "index")) continue;
        if (last) break;
        appended.WaitForNotificationWithTimeout(absl::Milliseconds(50));
      }
    });
    auto session = Require(engine_->Append(call_, {.context = kName, .writer_id = 1}), "append");
    Rows rows(path, dimension_);
    for (auto batch = rows.Next(); !batch.empty(); batch = rows.Next()) {
      TokenColumns tokens{.first_position = tokens_,
                          .count = static_cast<uint32_t>(batch.size() / dimension_)};
      tokens.embeddings = {reinterpret_cast<const uint8_t*>(batch.data()), batch.size_bytes()};
      std::vector<uint8_t> kinds;
      for (uint64_t i = 0; i < tokens.count; ++i) {
        kinds.push_back(static_cast<uint8_t>(KindAt(tokens_ + i)));
      }
      tokens.kinds = kinds;
      Require(session->Append(tokens), "append");
      tokens_ += tokens.count;
    }
    const double append = Seconds(BenchClock::now() - began);
    appended.Notify();
    indexer.join();
    const double indexed = Seconds(BenchClock::now() - began);
    const double tokens = static_cast<double>(tokens_);
    std::printf("  \"append_%s_tokens_per_second\": %.0f,\n", suffix, tokens / append);
    std::printf("  \"append_indexed_%s_tokens_per_second\": %.0f,\n", suffix, tokens / indexed);
    const ContextIndexerFigures built = engine_->index_figures().built;
    std::printf("  \"index_%s_built_rows_per_token\": %.2f,\n", suffix,
                static_cast<double>(built.rows) / tokens);
    std::printf("  \"index_%s_builds_cancelled\": %llu,\n", suffix,
                static_cast<unsigned long long>(built.cancelled));
  }

  ContextSearchAnswer Search(std::span<const float> query, const Filtered* filtered) {
    ContextSearchRequest request{
        .contexts = {kName}, .dimension = dimension_, .queries = query, .k = kResults};
    if (filtered != nullptr) request.filter.kinds = 1U << static_cast<uint32_t>(filtered->kind);
    return Require(engine_->Search(call_, request), "search");
  }

  // Of the sealed segments, for each token that they cover.
  double BytesPerToken() const {
    const auto held = engine_->index_figures().held;
    uint64_t bytes = 0;
    uint64_t rows = 0;
    for (const SegmentKind kind : {SegmentKind::kHnsw, SegmentKind::kIvf}) {
      bytes += held[Index(kind)].bytes;
      rows += held[Index(kind)].rows;
    }
    return static_cast<double>(bytes) / static_cast<double>(rows);
  }

 private:
  const uint32_t dimension_;
  CallContext call_;
  std::unique_ptr<Clock> clock_ = std::make_unique<SystemClock>();
  std::unique_ptr<FileSystem> files_ = MakePosixFileSystem();
  EventHub events_{1};
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<SpaceRegistry> registry_;
  std::unique_ptr<SpaceEngine> spaces_;
  std::unique_ptr<ContextStore> contexts_;
  std::unique_ptr<StoredContextEngine> engine_;
  uint64_t tokens_ = 0;
};

// The exact tenth best score of each query over the rows as they are stored, of
// all and of those that each filter keeps.
std::array<std::vector<float>, kSearches> ExactTenths(const std::string& path,
                                                      const VectorShape& shape,
                                                      const std::vector<Query>& queries) {
  std::array<std::vector<TopK>, kSearches> best;
  best.fill(std::vector<TopK>(queries.size(), TopK(kResults)));
  Rows rows(path, shape.dimension);
  uint64_t first = 0;
  std::string stored;
  for (auto batch = rows.Next(); !batch.empty(); batch = rows.Next()) {
    stored.clear();
    const auto count = static_cast<uint32_t>(batch.size() / shape.dimension);
    std::array<RowSet, kSearches> kept;
    kept.fill(RowSet(count));
    for (uint32_t i = 0; i < count; ++i) {
      for (size_t s = 0; s < kSearches; ++s) {
        if (Keeps(FilterOf(s), first + i)) kept[s].Add(i);
      }
      Require(EncodeRow(shape, batch.subspan(i * shape.dimension, shape.dimension), stored), "row");
    }
    const ContiguousReader reader(AsBytes(stored), shape.row_bytes());
    for (size_t s = 0; s < kSearches; ++s) {
      for (size_t q = 0; q < queries.size(); ++q) {
        Require(ScanRows(shape, BestKernels(), queries[q], {.first_id = first, .filter = &kept[s]},
                         count, reader, best[s][q], nullptr),
                "scan");
      }
    }
    first += count;
  }
  std::array<std::vector<float>, kSearches> tenths;
  for (size_t s = 0; s < kSearches; ++s) {
    for (TopK& one : best[s]) tenths[s].push_back(one.Take().back().score);
  }
  return tenths;
}

void PrintTimes(const std::string& key, std::vector<double> milliseconds) {
  std::printf("  \"search_%s_p50_ms\": %.3f,\n", key.c_str(), Percentile(milliseconds, 0.5));
  std::printf("  \"search_%s_p99_ms\": %.3f,\n", key.c_str(), Percentile(milliseconds, 0.99));
}

// Searches for all of `values`, `passes` times; prints what the last pass took, and
// before it the first one's, if there are more. Returns the scores of each query.
std::vector<std::vector<float>> Measure(Bench& bench, const std::vector<float>& values,
                                        uint32_t dimension, const std::string& key, int passes,
                                        const Filtered* filtered) {
  const size_t count = values.size() / dimension;
  std::vector<std::vector<float>> scores(count);
  ContextSearchAnswer work;
  for (int pass = 0; pass < passes; ++pass) {
    std::vector<double> milliseconds;
    for (size_t q = 0; q < count; ++q) {
      const auto began = BenchClock::now();
      const auto query = std::span<const float>(values).subspan(q * dimension, dimension);
      const ContextSearchAnswer answer = bench.Search(query, filtered);
      milliseconds.push_back(Seconds(BenchClock::now() - began) * 1e3);
      scores[q].clear();
      for (const ContextHit& hit : answer.hits[0]) scores[q].push_back(hit.score);
      work.distances += answer.distances;
      work.reranked += answer.reranked;
      work.unindexed = answer.unindexed;
    }
    PrintTimes(pass + 1 < passes ? key + "_cold" : key, std::move(milliseconds));
  }
  const double searches = static_cast<double>(passes) * static_cast<double>(count);
  std::printf("  \"search_%s_distances\": %.0f,\n", key.c_str(),
              static_cast<double>(work.distances) / searches);
  std::printf("  \"search_%s_reranked\": %.1f,\n", key.c_str(),
              static_cast<double>(work.reranked) / searches);
  std::printf("  \"search_%s_unindexed\": %llu,\n", key.c_str(),
              static_cast<unsigned long long>(work.unindexed));
  return scores;
}

void MeasureAll(Bench& bench, const std::string& base, const std::string& path, uint32_t dimension,
                size_t held_out, const std::string& suffix) {
  std::vector<float> values;
  Rows rows(path, dimension);
  for (auto batch = rows.Next(); !batch.empty(); batch = rows.Next()) {
    values.insert(values.end(), batch.begin(), batch.end());
  }
  const auto key_of = [&](size_t search) {
    return search == 0 ? suffix : suffix + FilterOf(search)->suffix;
  };
  std::array<std::vector<std::vector<float>>, kSearches> scores;
  for (size_t s = 0; s < kSearches; ++s) {
    scores[s] = Measure(bench, values, dimension, key_of(s), s == 0 ? 2 : 1, FilterOf(s));
  }
  std::printf("  \"index_%s_bytes_per_token\": %.2f,\n", suffix.c_str(), bench.BytesPerToken());
  const VectorShape shape{dimension, ElementType::kFloat16, Metric::kL2};
  std::vector<Query> queries;
  for (size_t at = 0; at < values.size() && queries.size() < held_out; at += dimension) {
    queries.push_back(*Query::Prepare(shape, {values.data() + at, dimension}));
  }
  const auto tenths = ExactTenths(base, shape, queries);
  for (size_t s = 0; s < kSearches; ++s) {
    double right = 0;
    for (size_t q = 0; q < queries.size(); ++q) {
      for (const float score : scores[s][q]) right += score >= tenths[s][q] ? 1 : 0;
    }
    std::printf("  \"recall_%s\": %.4f%s\n", key_of(s).c_str(),
                right / static_cast<double>(queries.size() * kResults),
                s + 1 < kSearches ? "," : "\n}");
  }
}

}  // namespace
}  // namespace mnemo

int main(int count, char** values) {
  if (count != 8) {
    std::fprintf(stderr, "usage: %s BASE.f32 QUERIES.f32 DIMENSION HELD_OUT SUFFIX FOLDER MIB\n",
                 values[0]);
    return 2;
  }
  const auto dimension = static_cast<uint32_t>(std::stoul(values[3]));
  mnemo::Bench bench(dimension, values[6], std::stoull(values[7]) * mnemo::kMiB);
  bench.Append(values[1], values[5]);
  mnemo::MeasureAll(bench, values[1], values[2], dimension, std::stoul(values[4]), values[5]);
}
