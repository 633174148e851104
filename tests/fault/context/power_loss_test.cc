// The machine loses power amid appends, seals, deletions, consolidation and
// demotion of contexts.
#include <map>
#include <set>

#include "storage/context/chunk_mover.h"
#include "storage/context/consolidator.h"
#include "tests/fault/context/power_loss_fixture.h"

namespace mnemo {
namespace {

// What a client knows of a context: the oracle.
struct Known {
  ContextSpec spec;
  uint64_t acknowledged = 0;  // tokens
  uint64_t offered = 0;       // tokens of batches whose answer it never saw, too
  bool sealed = false;        // acknowledged
  bool sealing = false;       // asked for
};

class Client {
 public:
  Client(uint64_t seed) : random_(seed) {}

  // Does something to a random context. False once the store has failed.
  bool Act(ContextStore& store) {
    const std::string name = "context" + std::to_string(random_() % 6);
    if (!known_.contains(name) && !Create(store, name)) return false;
    Known& known = known_[name];
    const auto record = store.ByName(kTenant, name);
    if (!record.ok()) return false;
    const uint64_t dice = random_() % 100;
    if (dice < 3) return Delete(store, *record);
    if (dice < 6 && known.acknowledged > 500) return Seal(store, *record, known);
    if (dice < 20) return Consolidate(store, *record);
    if (dice < 30) return Move(store, *record, known);
    if (known.sealing) return true;
    return Append(store, *record, known);
  }

  // Everything acknowledged is there, whole and once; and of what was not, a
  // prefix of whole batches at most.
  void Verify(ContextStore& store) {
    for (auto& [name, known] : known_) {
      SCOPED_TRACE(name);
      ASSERT_OK_AND_ASSIGN(const ContextRecord record, store.ByName(kTenant, name));
      ASSERT_EQ(record.spec, known.spec);
      ASSERT_OK_AND_ASSIGN(const ContextHead head, store.reader().Head(record));
      if (known.spec.durability == Durability::kSync) {
        ASSERT_GE(head.next_position, known.acknowledged);
      }
      ASSERT_LE(head.next_position, known.offered);
      ASSERT_OK(CheckTestTokens(store.reader(), record, head.next_position));
      ASSERT_OK_AND_ASSIGN(const TreeNode all,
                           store.reader().Summarize(record, 0, head.next_position));
      ASSERT_EQ(all.count, head.next_position);
      CheckSummaries(store, record, head.next_position);
      if (::testing::Test::HasFatalFailure()) return;
      if (known.sealed) {
        ASSERT_TRUE(head.sealed);
      }
      if (head.sealed) {
        ASSERT_TRUE(known.sealing);
      }
      known.acknowledged = known.offered = head.next_position;
      known.sealed = known.sealing = head.sealed;
    }
    for (const std::string& name : deleted_) {
      // Made again since, or perhaps made again.
      if (!known_.contains(name) && !unsure_.contains(name)) {
        ASSERT_THAT(store.ByName(kTenant, name), StatusIs(absl::StatusCode::kNotFound));
      }
    }
    // Whose answer was lost: either way.
    for (const std::string& name : unsure_) {
      const auto record = store.ByName(kTenant, name);
      if (record.ok()) {
        ASSERT_OK(store.Delete(*record));
      } else {
        ASSERT_THAT(record, StatusIs(absl::StatusCode::kNotFound));
      }
      deleted_.insert(name);
    }
    unsure_.clear();
  }

  uint64_t acknowledged_batches() const { return batches_; }
  uint64_t moves() const { return moves_; }

 private:
  bool Create(ContextStore& store, const std::string& name) {
    if (unsure_.contains(name)) return true;
    // Embeddings of a chunk as one value, or as 8.
    Known known{.spec = TestContext(name, random_() % 2 == 0 ? 8 : 132)};
    if (random_() % 3 == 0) known.spec.durability = Durability::kInterval;
    known.spec.labels = {{"name", name}};
    if (!store.Create(kTenant, known.spec).ok()) {
      unsure_.insert(name);
      return false;
    }
    known_[name] = known;
    return true;
  }
  bool Append(ContextStore& store, const ContextRecord& record, Known& known) {
    const auto claim = store.Claim(record, 1 + random_() % 3);
    if (!claim.ok()) return false;
    for (int i = 0; i < 4; ++i) {
      const auto count = static_cast<uint32_t>(1 + random_() % (random_() % 4 == 0 ? 2500 : 20));
      const TestTokens tokens(known.acknowledged, count, record.spec.dimension);
      known.offered = known.acknowledged + count;
      const auto result = store.Append(record, *claim, tokens.columns(), Durability::kInterval);
      if (!result.ok()) return false;
      known.acknowledged = result->next_position;
      ++batches_;
    }
    return true;
  }
  bool Consolidate(ContextStore& store, const ContextRecord& record) {
    return Consolidator(store, clock_).Step(record).ok();
  }
  bool Move(ContextStore& store, const ContextRecord& record, const Known& known) {
    const uint64_t runs = known.acknowledged / kRunTokens;
    if (runs == 0) return true;
    ChunkMover mover(store);
    const uint64_t run = random_() % runs;
    ++moves_;
    return (random_() % 3 == 0 ? mover.Promote(record, run) : mover.Demote(record, run)).ok();
  }
  // Summaries are there as far as the store says, of tokens that are there.
  void CheckSummaries(ContextStore& store, const ContextRecord& record, uint64_t tokens) {
    const SummaryReader& summaries = store.reader().summaries();
    ASSERT_OK_AND_ASSIGN(const uint64_t done, summaries.ConsolidatedTokens(record));
    ASSERT_LE(done, tokens);
    for (uint8_t level = 0; level < kSummaryLevels; ++level) {
      uint64_t count = 0;
      ASSERT_OK(summaries.Scan(record, level, 0, kMaxPosition, [&](ContextSummary& s) {
        count += s.first_position == count * s.count() ? 1 : 0;
        return true;
      }));
      ASSERT_EQ(count, done / TreeNodeTokens(level));
    }
  }
  bool Seal(ContextStore& store, const ContextRecord& record, Known& known) {
    known.sealing = true;
    known.sealed = store.Seal(record).ok();
    return known.sealed;
  }
  bool Delete(ContextStore& store, const ContextRecord& record) {
    const std::string name = record.spec.name;
    known_.erase(name);
    const bool done = store.Delete(record).ok();
    (done ? deleted_ : unsure_).insert(name);
    return done && store.EraseStep().ok();
  }

  std::mt19937_64 random_;
  std::map<std::string, Known> known_;
  std::set<std::string> deleted_, unsure_;
  uint64_t batches_ = 0;
  uint64_t moves_ = 0;
  FakeClock clock_;
};

TEST_F(ContextPowerLossTest, NothingAcknowledgedIsLostOrDoubledIn20Cycles) {
  const uint64_t seed = Seed();
  SCOPED_TRACE("MNEMO_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  Client client(seed + 1);
  for (int cycle = 0; cycle < 20; ++cycle) {
    SCOPED_TRACE("cycle " + std::to_string(cycle));
    ASSERT_OK(TryOpen());
    client.Verify(store());
    if (HasFatalFailure()) return;
    files_->FailAfter(random() % 500);
    for (int i = 0; i < 60 && client.Act(store()); ++i) {
    }
    LosePower(random());
  }
  EXPECT_GE(client.acknowledged_batches(), 20U);
  RecordProperty("moves", static_cast<int>(client.moves()));
}

TEST_F(ContextPowerLossTest, TokensOfASyncContextAreOnStableStorage) {
  ASSERT_OK(TryOpen());
  ASSERT_OK_AND_ASSIGN(const auto made, store().Create(kTenant, TestContext("c")));
  ASSERT_OK_AND_ASSIGN(const WriterClaim claim, store().Claim(made.first, 1));
  for (uint64_t first = 0; first < 500; first += 50) {
    ASSERT_OK(store().Append(made.first, claim, TestTokens(first, 50, 8).columns(),
                             Durability::kInterval));
  }
  LosePower(std::nullopt);
  ASSERT_OK(TryOpen());
  EXPECT_OK(CheckTestTokens(store().reader(), made.first, 500));
}

TEST_F(ContextPowerLossTest, AnIntervalContextLosesASuffixUnlessSyncIsAskedFor) {
  ASSERT_OK(TryOpen());
  ContextSpec spec = TestContext("c");
  spec.durability = Durability::kInterval;
  ASSERT_OK_AND_ASSIGN(const auto made, store().Create(kTenant, spec));
  ASSERT_OK_AND_ASSIGN(const WriterClaim claim, store().Claim(made.first, 1));
  const auto append = [&](uint64_t first, Durability durability) {
    return store().Append(made.first, claim, TestTokens(first, 50, 8).columns(), durability);
  };
  ASSERT_OK(append(0, Durability::kInterval));
  ASSERT_OK(append(50, Durability::kSync));
  ASSERT_OK(append(100, Durability::kInterval));
  LosePower(std::nullopt);
  ASSERT_OK(TryOpen());
  ASSERT_OK_AND_ASSIGN(const ContextHead head, store().reader().Head(made.first));
  EXPECT_EQ(head.next_position, 100U);
  EXPECT_OK(CheckTestTokens(store().reader(), made.first, 100));
}

TEST_F(ContextPowerLossTest, ARepeatIsAcknowledgedAsItAsksFor) {
  ASSERT_OK(TryOpen());
  ContextSpec spec = TestContext("c");
  spec.durability = Durability::kInterval;
  ASSERT_OK_AND_ASSIGN(const auto made, store().Create(kTenant, spec));
  ASSERT_OK_AND_ASSIGN(const WriterClaim claim, store().Claim(made.first, 1));
  const TestTokens tokens(0, 50, 8);
  ASSERT_OK(store().Append(made.first, claim, tokens.columns(), Durability::kInterval));
  ASSERT_OK_AND_ASSIGN(const AppendResult repeated,
                       store().Append(made.first, claim, tokens.columns(), Durability::kSync));
  ASSERT_TRUE(repeated.repeated);
  LosePower(std::nullopt);
  ASSERT_OK(TryOpen());
  EXPECT_OK(CheckTestTokens(store().reader(), made.first, 50));
}

// A refused change is seen until the instance is opened anew: nobody may take it
// for one that holds.
TEST_F(ContextPowerLossTest, WhatWasRefusedIsNotAcknowledgedTheSecondTime) {
  ASSERT_OK(TryOpen());
  ASSERT_OK_AND_ASSIGN(const auto made, store().Create(kTenant, TestContext("c")));
  ASSERT_OK_AND_ASSIGN(const WriterClaim claim, store().Claim(made.first, 1));
  const TestTokens tokens(0, 50, 8);
  const auto append = [&] {
    return store().Append(made.first, claim, tokens.columns(), Durability::kSync).status();
  };
  const auto refused = StatusIs(absl::StatusCode::kUnavailable);
  files_->FailSyncs(1);
  EXPECT_THAT(append(), refused);
  EXPECT_THAT(append(), refused);
  ASSERT_OK(node_->sync().MaintainSpace());
  ASSERT_OK(append());

  files_->FailSyncs(1);
  EXPECT_THAT(store().Seal(made.first), refused);
  EXPECT_THAT(store().Seal(made.first), refused);
  ASSERT_OK(node_->sync().MaintainSpace());
  ASSERT_OK(store().Seal(made.first));

  files_->FailSyncs(1);
  EXPECT_THAT(store().Create(kTenant, TestContext("d")), refused);
  EXPECT_THAT(store().Create(kTenant, TestContext("d")), refused);
  ASSERT_OK(node_->sync().MaintainSpace());
  ASSERT_OK_AND_ASSIGN(const auto other, store().Create(kTenant, TestContext("d")));

  files_->FailSyncs(1);
  EXPECT_THAT(store().Delete(other.first), refused);
  EXPECT_THAT(store().ByName(kTenant, "d"), refused);
  ASSERT_OK(node_->sync().MaintainSpace());
  // A refused change may hold after the recovery, or not.
  if (store().ByName(kTenant, "d").ok()) {
    ASSERT_OK(store().Delete(other.first));
  }

  LosePower(std::nullopt);
  ASSERT_OK(TryOpen());
  EXPECT_OK(CheckTestTokens(store().reader(), made.first, 50));
  ASSERT_OK_AND_ASSIGN(const ContextHead head, store().reader().Head(made.first));
  EXPECT_TRUE(head.sealed);
  EXPECT_THAT(store().ByName(kTenant, "d"), StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace mnemo
