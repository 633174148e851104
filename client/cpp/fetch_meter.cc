#include "client/cpp/fetch_meter.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <numeric>

namespace mnemo::client {
namespace {

constexpr double kDecay = 0.98;
// Sizes that differ by less tell nothing of what a call costs by itself.
constexpr double kLeastSpread = 0.05;

int SizeClass(const FetchShare& share) {
  return std::bit_width(share.bytes / std::max<uint64_t>(share.blocks, 1));
}

std::vector<FetchShare> Together(const std::map<Level, FetchShare>& levels) {
  std::vector<FetchShare> shares;
  for (const auto& [level, share] : levels) {
    if (share.bytes > 0) shares.push_back(share);
  }
  return shares;
}

void Add(std::map<Level, FetchShare>& levels, Level level, uint64_t blocks, uint64_t bytes) {
  FetchShare& share = levels[level];
  share.level = level;
  share.blocks += blocks;
  share.bytes += bytes;
}

}  // namespace

std::vector<FetchShare> SharesOf(const MatchResult& match) {
  uint64_t blocks = 0;
  for (const MatchRun& run : match.runs) blocks += run.count;
  std::map<Level, FetchShare> levels;
  for (const MatchRun& run : match.runs) {
    const double part = static_cast<double>(run.count) / static_cast<double>(blocks);
    Add(levels, run.level, run.count,
        static_cast<uint64_t>(part * static_cast<double>(match.fetch_bytes)));
  }
  return Together(levels);
}

std::vector<FetchShare> SharesOf(const GetResult& read, size_t width) {
  std::map<Level, FetchShare> levels;
  for (size_t key = 0; key + width <= read.parts.size(); key += width) {
    Level farthest = Level::kNone;
    uint64_t bytes = 0;
    for (size_t part = key; part < key + width; ++part) {
      if (!read.parts[part].status.ok()) return {};
      farthest = std::max(farthest, read.parts[part].level);
      bytes += read.parts[part].bytes;
    }
    Add(levels, farthest, 1, bytes);
  }
  return Together(levels);
}

void FetchMeter::Line::Add(double bytes, double seconds) {
  n = n * kDecay + 1;
  x = x * kDecay + bytes;
  y = y * kDecay + seconds;
  xx = xx * kDecay + bytes * bytes;
  xy = xy * kDecay + bytes * seconds;
}

std::pair<double, double> FetchMeter::Line::Fit() const {
  const double mean_x = x / n;
  const double mean_y = y / n;
  const double ratio = mean_y / mean_x;
  const double spread = xx / n - mean_x * mean_x;
  if (spread <= kLeastSpread * mean_x * kLeastSpread * mean_x) return {0, ratio};
  const double slope = std::clamp((xy / n - mean_x * mean_y) / spread, 0.0, ratio);
  return {mean_y - slope * mean_x, slope};
}

double FetchMeter::Thought::Sum() const {
  return std::accumulate(shares.begin(), shares.end(), 0.0);
}

const FetchMeter::Line* FetchMeter::NearestLocked(const FetchShare& share) const {
  const int wanted = SizeClass(share);
  const Line* nearest = nullptr;
  int distance = 0;
  for (const auto& [key, line] : lines_) {
    if (key.first != share.level) continue;
    const int apart = std::abs(key.second - wanted);
    if (nearest == nullptr || apart < distance) {
      nearest = &line;
      distance = apart;
    }
  }
  return nearest;
}

std::optional<FetchMeter::Thought> FetchMeter::ThinkLocked(
    std::span<const FetchShare> shares) const {
  Thought thought;
  for (const FetchShare& share : shares) {
    const Line* line = NearestLocked(share);
    if (line == nullptr) return std::nullopt;
    const auto [call, byte] = line->Fit();
    thought.call = std::max(thought.call, call);
    thought.shares.push_back(byte * static_cast<double>(share.bytes));
  }
  return thought;
}

void FetchMeter::Record(std::span<const FetchShare> shares, Duration took) {
  const double seconds = took.count();
  if (shares.empty() || seconds <= 0) return;
  MutexLock lock(mutex_);
  const auto line = [&](const FetchShare& share) ABSL_NO_THREAD_SAFETY_ANALYSIS -> Line& {
    return lines_[{share.level, SizeClass(share)}];
  };
  if (shares.size() == 1) {
    line(shares[0]).Add(static_cast<double>(shares[0].bytes), seconds);
    return;
  }
  // Of several levels: what each is thought to take, stretched to what it was.
  const std::optional<Thought> thought = ThinkLocked(shares);
  if (!thought || thought->Sum() <= 0) return;
  const double stretch = std::max(seconds - thought->call, 0.0) / thought->Sum();
  for (size_t i = 0; i < shares.size(); ++i) {
    line(shares[i]).Add(static_cast<double>(shares[i].bytes),
                        thought->call + thought->shares[i] * stretch);
  }
}

std::optional<FetchMeter::Duration> FetchMeter::Estimate(std::span<const FetchShare> shares) const {
  if (shares.empty()) return std::nullopt;
  MutexLock lock(mutex_);
  const std::optional<Thought> thought = ThinkLocked(shares);
  if (!thought) return std::nullopt;
  return Duration(thought->call + thought->Sum());
}

}  // namespace mnemo::client
