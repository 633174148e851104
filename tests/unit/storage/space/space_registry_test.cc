#include "storage/block/space_registry.h"

#include <map>
#include <set>
#include <thread>

#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kTenant = 7;
constexpr uint64_t kOther = 8;

SpaceSpec Spec(const std::string& name, uint16_t tokens = 16) {
  return {.name = name,
          .tokens_per_block = tokens,
          .groups = {{.name = "bytes", .kind = GroupKind::kOpaque, .layers = 1}}};
}

// As much of a store as the registry needs, in RAM; keeps what it was told.
class RecordingStore final : public Store {
 public:
  absl::Status Apply(const StoreBatch& batch, bool sync) override {
    MNEMO_RETURN_IF_ERROR(failure);
    for (const StoreBatch::Write& write : batch.writes()) {
      if (write.value) {
        records[write.key.bytes()] = *write.value;
      } else {
        records.erase(write.key.bytes());
      }
    }
    for (const Operation& operation : batch.operations()) logged.push_back(operation.kind);
    all_synced &= sync;
    return absl::OkStatus();
  }
  absl::Status Scan(std::string_view begin, std::string_view end,
                    const std::function<bool(const StoredKey&, std::string_view)>& visit,
                    const StoreSnapshot*) const override {
    for (auto it = records.lower_bound(std::string(begin)); it != records.end(); ++it) {
      if (!end.empty() && it->first >= end) break;
      if (!visit(StoredKey::FromBytes(it->first), it->second)) break;
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> Get(const StoredKey&, const StoreSnapshot*) const override {
    return absl::UnimplementedError("the registry reads by Scan");
  }
  std::unique_ptr<StoreSnapshot> Snapshot() const override { return nullptr; }
  absl::Status ReadLog(uint16_t, uint64_t,
                       const std::function<bool(const Operation&)>&) const override {
    return absl::OkStatus();
  }
  uint64_t LastSequence(uint16_t) const override { return logged.size(); }
  absl::Status TrimLog(uint16_t, uint64_t) override { return absl::OkStatus(); }
  absl::Status Sync() override { return absl::OkStatus(); }
  absl::Status Writable() const override { return absl::OkStatus(); }

  absl::Status failure;  // of every Apply
  std::map<std::string, std::string> records;
  std::vector<OperationKind> logged;
  bool all_synced = true;
};

class SpaceRegistryTest : public ::testing::Test {
 protected:
  SpaceRegistryTest() { Reload(); }
  // What a restart does.
  void Reload() {
    auto loaded = SpaceRegistry::Load(store_, clock_);
    ASSERT_OK(loaded);
    registry_ = *std::move(loaded);
  }
  SpaceRegistry::SpacePtr Open(uint64_t tenant, const SpaceSpec& spec) {
    const auto opened = registry_->Open(tenant, spec, /*must_exist=*/false);
    EXPECT_OK(opened);
    return opened.ok() ? opened->first : nullptr;
  }

  FakeClock clock_;
  RecordingStore store_;
  std::unique_ptr<SpaceRegistry> registry_;
};

TEST_F(SpaceRegistryTest, OpensOnceAndFindsItByNameAndId) {
  ASSERT_OK_AND_ASSIGN(const auto made, registry_->Open(kTenant, Spec("a"), false));
  EXPECT_TRUE(made.second);
  EXPECT_EQ(made.first->created, clock_.Wall());
  ASSERT_OK_AND_ASSIGN(const auto again, registry_->Open(kTenant, Spec("a"), false));
  EXPECT_FALSE(again.second);
  EXPECT_EQ(again.first, made.first);
  EXPECT_EQ(*registry_->ByName(kTenant, "a"), made.first);
  EXPECT_EQ(*registry_->ById(kTenant, made.first->scope.space), made.first);
  EXPECT_EQ(store_.logged.size(), 1u) << "opening again writes nothing";
}

TEST_F(SpaceRegistryTest, MustExistCreatesNothing) {
  EXPECT_THAT(registry_->Open(kTenant, Spec("a"), /*must_exist=*/true),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'a'")));
  EXPECT_TRUE(store_.records.empty());
}

TEST_F(SpaceRegistryTest, ADifferenceIsRefusedAndChangesNothing) {
  const auto made = Open(kTenant, Spec("a", 16));
  for (const bool must_exist : {false, true}) {
    EXPECT_THAT(registry_->Open(kTenant, Spec("a", 32), must_exist),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("tokens_per_block is 16, not 32")));
  }
  EXPECT_EQ(*registry_->ByName(kTenant, "a"), made);
}

TEST_F(SpaceRegistryTest, ABadSpecIsRefusedThoughNobodyHasTheName) {
  EXPECT_THAT(registry_->Open(kTenant, Spec("a", 0), /*must_exist=*/true),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tokens_per_block")));
}

TEST_F(SpaceRegistryTest, EightCallersAtOnceGetOneSpace) {
  std::vector<std::thread> callers;
  std::vector<uint64_t> ids(8);
  std::atomic<int> created{0};
  for (size_t i = 0; i < ids.size(); ++i) {
    callers.emplace_back([&, i] {
      const auto opened = registry_->Open(kTenant, Spec("a"), false);
      ASSERT_OK(opened);
      ids[i] = opened->first->scope.space;
      created += opened->second;
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(std::set<uint64_t>(ids.begin(), ids.end()).size(), 1u);
  EXPECT_EQ(created, 1);
  EXPECT_EQ(registry_->size(), 1u);
}

TEST_F(SpaceRegistryTest, TenantsDoNotSeeEachOther) {
  const auto mine = Open(kTenant, Spec("a", 16));
  const auto theirs = Open(kOther, Spec("a", 32));
  EXPECT_NE(mine->scope.space, theirs->scope.space);
  EXPECT_THAT(registry_->ById(kTenant, theirs->scope.space), StatusIs(absl::StatusCode::kNotFound));
  Open(kOther, Spec("b"));
  EXPECT_THAT(registry_->ByName(kTenant, "b"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(registry_->List(kTenant, "", 100), std::vector{mine});
  ASSERT_OK(registry_->Remove(kTenant, theirs->scope.space));
  EXPECT_OK(registry_->ById(kOther, theirs->scope.space));
}

TEST_F(SpaceRegistryTest, ListsByNamePageByPage) {
  for (const char* name : {"c", "a", "d", "b"}) Open(kTenant, Spec(name));
  std::string names;
  std::string after;
  for (;;) {
    const auto page = registry_->List(kTenant, after, 3);
    if (page.empty()) break;
    for (const auto& space : page) names += space->spec.name;
    after = page.back()->spec.name;
    names += "|";
  }
  EXPECT_EQ(names, "abc|d|");
}

TEST_F(SpaceRegistryTest, EveryChangeIsOnStableStorageAndInTheLogBeforeItIsAnswered) {
  const uint64_t id = Open(kTenant, Spec("a"))->scope.space;
  ASSERT_OK(registry_->UpdatePolicy(kTenant, id, {.time_to_live_seconds = 60}));
  ASSERT_OK(registry_->Remove(kTenant, id));
  EXPECT_EQ(store_.logged, (std::vector{OperationKind::kPutSpace, OperationKind::kPutSpace,
                                        OperationKind::kDeleteSpace}));
  EXPECT_TRUE(store_.all_synced);
  EXPECT_TRUE(store_.records.empty());
}

TEST_F(SpaceRegistryTest, ComesBackAsItWasAfterARestart) {
  const auto kept = Open(kTenant, Spec("kept"));
  const uint64_t gone = Open(kTenant, Spec("gone"))->scope.space;
  ASSERT_OK(registry_->UpdatePolicy(kTenant, kept->scope.space,
                                    {.durability = Durability::kSync, .time_to_live_seconds = 60}));
  ASSERT_OK(registry_->Remove(kTenant, gone));
  Reload();
  EXPECT_EQ(registry_->size(), 1u);
  ASSERT_OK_AND_ASSIGN(const auto back, registry_->ById(kTenant, kept->scope.space));
  EXPECT_EQ(back->created, kept->created);
  EXPECT_EQ(back->spec.policy.durability, Durability::kSync);
  EXPECT_EQ(back->spec.policy.time_to_live_seconds, 60u);
  EXPECT_EQ(*registry_->ByName(kTenant, "kept"), back);
}

TEST_F(SpaceRegistryTest, AnUpdateMakesANewSpaceAndLeavesTheOneInUseAlone) {
  const auto before = Open(kTenant, Spec("a"));
  ASSERT_OK_AND_ASSIGN(const auto after, registry_->UpdatePolicy(kTenant, before->scope.space,
                                                                 {.time_to_live_seconds = 60}));
  EXPECT_EQ(before->spec.policy.time_to_live_seconds, 0u);
  EXPECT_EQ(after->spec.policy.time_to_live_seconds, 60u);
  EXPECT_EQ(*registry_->ByName(kTenant, "a"), after);
  EXPECT_EQ(*registry_->ById(kTenant, before->scope.space), after);
  EXPECT_THAT(registry_->UpdatePolicy(kTenant, before->scope.space, {.floor_bits_per_value = 8}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("floor")));
  EXPECT_THAT(registry_->UpdatePolicy(kTenant, 1, {}), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(SpaceRegistryTest, AnUpdateLeavesTheFloorIfItIsToldTo) {
  SpaceSpec spec = Spec("a");
  spec.fingerprint.weights_digest = "sha256:1";
  spec.groups = {{.name = "full",
                  .layers = 1,
                  .kv_heads = 1,
                  .k_dimension = 64,
                  .v_dimension = 64,
                  .dtype = DType::kF16}};
  spec.policy.floor_bits_per_value = 4;
  spec.policy.level_bits.l2 = 8;
  const uint64_t id = Open(kTenant, spec)->scope.space;
  ASSERT_OK_AND_ASSIGN(const auto kept,
                       registry_->UpdatePolicy(kTenant, id, {.time_to_live_seconds = 60},
                                               {.floor = true, .levels = true}));
  EXPECT_EQ(kept->spec.policy.floor_bits_per_value, 4u);
  EXPECT_EQ(kept->spec.policy.level_bits, LevelBits{.l2 = 8});
  EXPECT_EQ(kept->spec.policy.time_to_live_seconds, 60u);
  // Levels that stay must fit the floor that comes.
  EXPECT_THAT(registry_->UpdatePolicy(kTenant, id, {}, {.levels = true}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("policy.levels.l2")));
  ASSERT_OK_AND_ASSIGN(const auto exact, registry_->UpdatePolicy(kTenant, id, {}));
  EXPECT_EQ(exact->spec.policy.level_bits, LevelBits());
  EXPECT_EQ(exact->spec.policy.floor_bits_per_value, 0u);
}

TEST_F(SpaceRegistryTest, WhatCannotBeWrittenHasNotHappened) {
  const auto kept = Open(kTenant, Spec("kept"));
  store_.failure = absl::ResourceExhaustedError("the disk is full");
  EXPECT_THAT(registry_->Open(kTenant, Spec("new"), false),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(registry_->ByName(kTenant, "new"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_FALSE(registry_->UpdatePolicy(kTenant, kept->scope.space, {}).ok());
  EXPECT_FALSE(registry_->Remove(kTenant, kept->scope.space).ok());
  EXPECT_EQ(*registry_->ByName(kTenant, "kept"), kept);
  EXPECT_EQ(registry_->size(), 1u);
}

TEST_F(SpaceRegistryTest, ADamagedRecordIsDataLossAndNotAMissingSpace) {
  Open(kTenant, Spec("a"));
  store_.records.begin()->second.back() ^= 1;
  EXPECT_THAT(SpaceRegistry::Load(store_, clock_).status(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(SpaceRegistryTest, RemovingTwiceIsFine) {
  const uint64_t id = Open(kTenant, Spec("a"))->scope.space;
  EXPECT_OK(registry_->Remove(kTenant, id));
  EXPECT_OK(registry_->Remove(kTenant, id));
  EXPECT_EQ(store_.logged.size(), 2u);
  EXPECT_NE(Open(kTenant, Spec("a"))->scope.space, id) << "ids are never given twice";
}

}  // namespace
}  // namespace mnemo
