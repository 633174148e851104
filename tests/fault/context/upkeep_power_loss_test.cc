// The machine loses power amid summaries, and amid moves to and from the
// archive, 20 times each.
#include <cmath>
#include <string>
#include <vector>

#include "server/workers/context_upkeep.h"
#include "tests/fault/context/power_loss_fixture.h"

namespace mnemo {
namespace {

constexpr uint32_t kDimension = 8;
constexpr int kCycles = 20;

class UpkeepPowerLossTest : public ContextPowerLossTest {
 protected:
  struct Known {
    ContextRecord record;
    uint64_t tokens = 0;  // acknowledged
    uint64_t seed = 0;
  };

  void CreateContexts() {
    ASSERT_OK(TryOpen());
    for (const Durability durability : {Durability::kSync, Durability::kInterval}) {
      ContextSpec spec = TestContext(durability == Durability::kSync ? "sync" : "interval");
      spec.durability = durability;
      ASSERT_OK_AND_ASSIGN(const auto made, store().Create(kTenant, spec));
      known_.push_back({.record = made.first, .seed = known_.size() + 1});
    }
  }
  void Append(Known& known, uint64_t count) {
    ASSERT_OK_AND_ASSIGN(const WriterClaim claim, store().Claim(known.record, 1));
    for (uint64_t left = count; left > 0;) {
      const auto size = static_cast<uint32_t>(std::min<uint64_t>(left, kRunTokens));
      const TestTokens tokens(known.tokens, size, kDimension, known.seed);
      ASSERT_OK(store().Append(known.record, claim, tokens.columns(), Durability::kInterval));
      known.tokens += size;
      left -= size;
    }
  }
  void StartUpkeep(const ContextUpkeepOptions& options) {
    upkeep_ = std::make_unique<ContextUpkeep>(store(), clock_, options, nullptr,
                                              [](const absl::Status&) {});
  }
  // Steps until one fails, or nothing is to be done. Whether one failed.
  bool WorkUntilItFails() {
    for (int idle = 0; idle < 3;) {
      const Nanos wait = upkeep_->Step();
      clock_.Advance(wait);
      if (upkeep_->figures().failures > 0) return true;
      idle = wait == ContextUpkeepOptions{}.idle_wait ? idle + 1 : 0;
    }
    return false;
  }

  // Every acknowledged token is there once, wherever it lies, and every summary
  // that the store tells of is that of its tokens.
  void Verify() {
    for (Known& known : known_) {
      SCOPED_TRACE(known.record.spec.name);
      ASSERT_OK_AND_ASSIGN(const ContextHead head, store().reader().Head(known.record));
      if (known.record.spec.durability == Durability::kSync) {
        ASSERT_EQ(head.next_position, known.tokens);
      }
      ASSERT_LE(head.next_position, known.tokens);
      known.tokens = head.next_position;
      ASSERT_OK(CheckTestTokens(store().reader(), known.record, known.tokens, known.seed));
      VerifySummaries(known);
      if (HasFatalFailure()) return;
    }
  }
  void VerifySummaries(const Known& known) {
    const SummaryReader& summaries = store().reader().summaries();
    ASSERT_OK_AND_ASSIGN(const uint64_t done, summaries.ConsolidatedTokens(known.record));
    ASSERT_LE(done, known.tokens);
    for (uint8_t level = 0; level < kSummaryLevels; ++level) {
      uint64_t next = 0;
      std::string wrong;
      ASSERT_OK(summaries.Scan(known.record, level, 0, kMaxPosition, [&](ContextSummary& summary) {
        if (summary.first_position != next) wrong = "a summary is missing";
        if (!AgreesWithTokens(known, summary)) wrong = "not that of its tokens";
        next += summary.count();
        return wrong.empty();
      }));
      ASSERT_EQ(wrong, "") << "level " << int{level} << " before " << next;
      ASSERT_EQ(next, done / TreeNodeTokens(level) * TreeNodeTokens(level));
    }
  }
  // The mean is theirs, and no token is nearer to the mean of their directions
  // than the medoid.
  static bool AgreesWithTokens(const Known& known, const ContextSummary& summary) {
    std::vector<double> mean(kDimension), centre(kDimension);
    const auto row_of = [&](uint64_t position, double& norm) {
      std::vector<double> row;
      norm = 0;
      for (uint32_t j = 0; j < kDimension; ++j) {
        row.push_back(TestTokens::Value(position, j, known.seed));
        norm += row.back() * row.back();
      }
      norm = std::sqrt(norm);
      return row;
    };
    const auto count = static_cast<double>(summary.count());
    const uint64_t end = summary.first_position + summary.count();
    double norm = 0;
    for (uint64_t position = summary.first_position; position < end; ++position) {
      const std::vector<double> row = row_of(position, norm);
      for (uint32_t j = 0; j < kDimension; ++j) {
        mean[j] += row[j] / count;
        centre[j] += row[j] / norm / count;
      }
    }
    std::vector<float> stored(kDimension);
    DecodeRows(known.record.spec.stored, AsBytes(summary.row).data(), 1, kDimension, stored.data());
    for (uint32_t j = 0; j < kDimension; ++j) {
      if (std::abs(stored[j] - mean[j]) > 2e-3) return false;
    }
    const auto nearness = [&](uint64_t position) {
      const std::vector<double> row = row_of(position, norm);
      double dot = 0;
      for (uint32_t j = 0; j < kDimension; ++j) dot += row[j] / norm * centre[j];
      return dot;
    };
    const double best = nearness(summary.medoid_position);
    for (uint64_t position = summary.first_position; position < end; ++position) {
      if (nearness(position) > best + 1e-5) return false;
    }
    return true;
  }

  std::vector<Known> known_;
  std::unique_ptr<ContextUpkeep> upkeep_;
};

TEST_F(UpkeepPowerLossTest, AmidSummaries) {
  const uint64_t seed = Seed();
  SCOPED_TRACE("MNEMO_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  CreateContexts();
  int cut = 0;
  for (int cycle = 0; cycle < kCycles; ++cycle) {
    SCOPED_TRACE("cycle " + std::to_string(cycle));
    for (Known& known : known_) Append(known, 1 + random() % (3 * kRunTokens));
    StartUpkeep({});
    // A summary's batch is some few writes and one sync.
    files_->FailAfter(random() % 12);
    cut += WorkUntilItFails() ? 1 : 0;
    upkeep_.reset();
    LosePower(random());
    ASSERT_OK(TryOpen());
    Verify();
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(cut, kCycles / 2);
  // What was cut short is done by the next.
  StartUpkeep({});
  ASSERT_FALSE(WorkUntilItFails());
  Verify();
  for (const Known& known : known_) {
    ASSERT_OK_AND_ASSIGN(const uint64_t done,
                         store().reader().summaries().ConsolidatedTokens(known.record));
    EXPECT_EQ(done, known.tokens / kChunkTokens * kChunkTokens);
  }
}

TEST_F(UpkeepPowerLossTest, AmidMoves) {
  const uint64_t seed = Seed();
  SCOPED_TRACE("MNEMO_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  // 32 runs are a MiB: most have to leave, and what is used comes back.
  const ContextUpkeepOptions options{
      .l3_bytes = kMiB, .high_watermark = 0.35, .low_watermark = 0.2, .promote_hits = 1};
  CreateContexts();
  int cut = 0;
  for (int cycle = 0; cycle < kCycles; ++cycle) {
    SCOPED_TRACE("cycle " + std::to_string(cycle));
    for (Known& known : known_) Append(known, (2 + random() % 4) * kRunTokens);
    // Summaries first, so that the cut is not amid them.
    StartUpkeep({.l3_bytes = kGiB});
    ASSERT_FALSE(WorkUntilItFails());
    StartUpkeep(options);
    for (Known& known : known_) {
      store().reader().NoteUse(known.record, random() % known.tokens);
    }
    files_->FailAfter(random() % 40);
    cut += WorkUntilItFails() ? 1 : 0;
    upkeep_.reset();
    LosePower(random());
    ASSERT_OK(TryOpen());
    Verify();
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(cut, kCycles / 2);
  StartUpkeep(options);
  ASSERT_FALSE(WorkUntilItFails());
  Verify();
  const ContextUpkeepFigures figures = upkeep_->figures();
  EXPECT_LE(figures.l3.bytes, static_cast<uint64_t>(0.35 * kMiB));
  uint64_t runs = 0;
  for (const Known& known : known_) runs += known.tokens / kRunTokens;
  EXPECT_EQ(figures.l3.runs + figures.archive.runs, runs);
}

}  // namespace
}  // namespace mnemo
