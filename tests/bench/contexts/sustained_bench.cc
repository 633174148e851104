// How many tokens a second one context takes for minutes, while what was
// appended is searched and whatever indexes it works behind.
//
//   bench_contexts_sustained FOLDER [SECONDS [MOST_PER_SECOND]] > sustained.json
//
// Dimension 256, fp16, durability interval. The writer keeps below
// MOST_PER_SECOND, and waits while more than kBacklog tokens are not indexed, if
// the daemon indexes at all. Beside it, somebody searches the whole context for
// the token that was acknowledged last, again and again until it is found.
// Resident memory is the daemon's; its growth is the most of the last third over
// the most of the middle third.
#include <atomic>
#include <nlohmann/json.hpp>

#include "storage/base/mutex.h"
#include "tests/bench/contexts/context_load.h"

namespace mnemo {
namespace {

constexpr uint32_t kDimension = 256;
constexpr uint64_t kPiece = 1024;
constexpr uint64_t kBacklog = 250'000;  // ten seconds' worth at the bar
constexpr char kName[] = "sustained";

struct Probe {
  uint64_t position = 0;
  std::vector<float> row;
  BenchClock::time_point acknowledged;
};

// The token that was acknowledged last.
class LastToken {
 public:
  void Set(Probe probe) {
    MutexLock lock(mutex_);
    last_ = std::move(probe);
  }
  Probe Get() const {
    MutexLock lock(mutex_);
    return last_;
  }

 private:
  mutable Mutex mutex_;
  Probe last_ ABSL_GUARDED_BY(mutex_);
};

class Run {
 public:
  Run(const std::string& folder, double seconds, double most_per_second)
      : seconds_(seconds),
        most_per_second_(most_per_second),
        daemon_(StartDaemon(folder, "4GiB")),
        client_(Connect(*daemon_)) {}

  nlohmann::ordered_json Execute() {
    Require(client_->contexts().Create(ContextOf(kName, kDimension)), "create");
    began_ = BenchClock::now();
    std::thread watcher([this] { Watch(); });
    std::thread searcher([this] { Search(); });
    const uint64_t tokens = Append();
    const double seconds = Seconds(BenchClock::now() - began_);
    done_ = true;
    searcher.join();
    watcher.join();
    return Report(tokens, seconds);
  }

 private:
  uint64_t Append() {
    RowMaker maker(kDimension, 1);
    const std::vector<uint32_t> ids = SomeIds(kPiece);
    const auto writer = Require(client_->contexts().Write(kName), "write");
    uint64_t sent = 0;
    Probe next;  // of what is on its way
    const auto elapsed = [this] { return Seconds(BenchClock::now() - began_); };
    while (elapsed() < seconds_) {
      if (behind_ || static_cast<double>(sent) > most_per_second_ * elapsed()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      const std::vector<uint16_t> rows = maker.DrawHalves(kPiece);
      Require(writer->Append(Columns(rows, ids)), "append");
      sent += kPiece;
      if (next.row.empty()) {
        next.position = sent - 1;
        for (size_t j = rows.size() - kDimension; j < rows.size(); ++j) {
          next.row.push_back(HalfToFloat(rows[j]));
        }
      }
      if (writer->acknowledged() > next.position) {
        next.acknowledged = BenchClock::now();
        last_.Set(std::exchange(next, {}));
      }
    }
    return Require(writer->Flush(), "flush");
  }

  // Whether the indexes are too far behind, and what is resident.
  void Watch() {
    while (!done_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(250));
      const auto now = Require(client_->contexts().Describe(kName, 0, kPatient), "describe");
      unindexed_ = now.context.tokens - now.indexed_tokens;
      indexed_ = now.indexed_tokens;
      behind_ = indexed_ > 0 && unindexed_ > kBacklog;
      const double part = 3 * Seconds(BenchClock::now() - began_) / seconds_;
      uint64_t& most = resident_[part < 1 ? 0 : part < 2 ? 1 : 2];
      most = std::max(most, daemon_->resident_bytes());
    }
  }

  bool Finds(const Probe& probe) {
    client::SearchRequest request{.contexts = {kName}, .dimension = kDimension};
    request.queries = probe.row;
    const auto began = BenchClock::now();
    const auto result = Require(client_->contexts().Search(request, kPatient), "search");
    search_ms_.push_back(Seconds(BenchClock::now() - began) * 1e3);
    for (const client::SearchHit& hit : result.hits[0]) {
      if (hit.position == probe.position) return true;
    }
    return false;
  }

  void Search() {
    while (!done_) {
      const Probe probe = last_.Get();
      if (probe.row.empty() || probe.position == searched_) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        continue;
      }
      searched_ = probe.position;
      while (!Finds(probe) && Seconds(BenchClock::now() - probe.acknowledged) < 60) {
      }
      found_s_.push_back(Seconds(BenchClock::now() - probe.acknowledged));
    }
  }

  nlohmann::ordered_json Report(uint64_t tokens, double seconds) {
    nlohmann::ordered_json out;
    out["append_indexed_tokens_per_second"] = static_cast<double>(tokens) / seconds;
    out["append_indexed_seconds"] = seconds;
    out["append_indexed_tokens"] = indexed_.load();
    out["append_unindexed_tokens"] = unindexed_.load();
    out["append_searchable_p50_s"] = Percentile(found_s_, 0.5);
    out["append_searchable_worst_s"] = Percentile(found_s_, 1);
    out["append_search_p50_ms"] = Percentile(search_ms_, 0.5);
    out["append_searches"] = search_ms_.size();
    out["append_resident_mib"] = static_cast<double>(resident_[2]) / (1 << 20);
    out["append_resident_growth"] =
        static_cast<double>(resident_[2]) / static_cast<double>(resident_[1]);
    return out;
  }

  const double seconds_;
  const double most_per_second_;
  const std::unique_ptr<DaemonProcess> daemon_;
  const std::unique_ptr<client::Client> client_;
  BenchClock::time_point began_;
  LastToken last_;
  std::atomic<bool> done_{false};
  std::atomic<bool> behind_{false};
  std::atomic<uint64_t> indexed_{0};
  std::atomic<uint64_t> unindexed_{0};
  // Of the watcher, and of the searcher, until they ended.
  uint64_t resident_[3] = {};
  uint64_t searched_ = 0;
  std::vector<double> search_ms_;
  std::vector<double> found_s_;
};

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_contexts_sustained FOLDER [SECONDS [MOST_PER_SECOND]]\n");
    return 2;
  }
  mnemo::Run run(std::string(argv[1]) + "/sustained", argc > 2 ? std::atof(argv[2]) : 300,
                 argc > 3 ? std::atof(argv[3]) : 40'000);
  std::printf("%s\n", run.Execute().dump(2).c_str());
  return 0;
}
