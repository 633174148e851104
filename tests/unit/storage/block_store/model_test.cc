// Random operations beside a map of what must be true. A failing run prints
// its seed; MNEMO_TEST_SEED replays it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/support/block_store_fixture.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {
namespace {

struct Known {
  uint64_t version = 0;
  uint64_t size = 0;
  Durability durability = Durability::kCache;
  bool pinned = false;
};

using Name = std::pair<uint64_t, uint32_t>;

class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed) { options_.promote_hits = 2; }

  void Run(int operations) {
    Open();
    for (int i = 0; i < operations && !::testing::Test::HasFailure(); ++i) {
      switch (Pick(20)) {
        case 0:
          Erase();
          break;
        case 1:
          Pin();
          break;
        case 2:
          Lease();
          break;
        case 3:
          clock_.Advance(std::chrono::seconds(Pick(20)));
          break;
        case 4:
          if (Pick(20) == 0) Restart();
          break;
        case 5:
        case 6:
          MoveAll(*store_, 4);
          break;
        case 7:
        case 8:
        case 9:
        case 10:
        case 11:
          Put();
          break;
        default:
          Read(Some());
          break;
      }
    }
    for (uint64_t chain = 0; chain < kChains; ++chain) {
      for (uint32_t depth = 0; depth < kDepths; ++depth) Read({chain, depth});
    }
    CheckFigures();
    ASSERT_OK(store_->Close());
  }

 private:
  static constexpr uint64_t kChains = 60;
  static constexpr uint32_t kDepths = 6;

  uint64_t Pick(uint64_t below) { return random_() % below; }
  Name Some() { return {Pick(kChains), static_cast<uint32_t>(Pick(kDepths))}; }

  void Open() {
    options_ = SmallStore(dir_ / "data");
    options_.l3_bytes = 96 * kMiB;
    options_.lease_share = 0.1;
    auto store = BlockStore::Open(options_, files_, clock_, nullptr);
    ASSERT_OK(store);
    store_ = *std::move(store);
  }

  void Put() {
    const Name name = Some();
    const PartKey key = TestPart(name.first, name.second);
    Known known;
    known.version = ++versions_;
    known.size = 1 + Pick(Pick(4) == 0 ? 3 * kMiB : 100'000);
    known.durability = static_cast<Durability>(1 + Pick(3));
    WriteSpec spec = TestSpec(known.size, name.second, known.durability);
    if (name.second > 0) spec.parent = TestBlockKey(name.first, name.second - 1);
    const bool was_sure = Sure(name);
    const absl::Status put =
        PutPart(*store_, key, TestPayload(key, known.version, known.size), spec);
    if (put.ok()) {
      ASSERT_FALSE(was_sure) << "a present part was written again";
      known_[name] = known;
    } else if (absl::IsAlreadyExists(put)) {
      ASSERT_TRUE(known_.contains(name));
    } else {
      ASSERT_THAT(put, StatusIs(absl::StatusCode::kResourceExhausted));
    }
  }

  // Whether the part must be there.
  bool Sure(const Name& name) const {
    const auto it = known_.find(name);
    return it != known_.end() &&
           (it->second.durability != Durability::kCache || it->second.pinned ||
            (leased_.contains(name) && clock_.Mono() < lease_ends_));
  }

  void Read(const Name& name) {
    const PartKey key = TestPart(name.first, name.second);
    const absl::StatusOr<std::string> bytes = ReadAll(*store_, key);
    if (!bytes.ok()) {
      ASSERT_THAT(bytes, StatusIs(absl::StatusCode::kNotFound));
      ASSERT_FALSE(Sure(name)) << "lost: chain " << name.first << " depth " << name.second;
      known_.erase(name);
      return;
    }
    const auto it = known_.find(name);
    ASSERT_TRUE(it != known_.end()) << "nobody wrote this, or it was erased";
    ASSERT_TRUE(*bytes == TestPayload(key, it->second.version, it->second.size));
  }

  void Erase() {
    const Name name = Some();
    const PartKey key = TestPart(name.first, name.second);
    const bool was_sure = Sure(name);
    ASSERT_OK_AND_ASSIGN(const uint64_t erased, store_->Erase({&key, 1}));
    if (was_sure) {
      ASSERT_EQ(erased, 1u);
    }
    if (!known_.contains(name)) {
      ASSERT_EQ(erased, 0u);
    }
    known_.erase(name);
    leased_.erase(name);
  }

  void Pin() {
    const Name name = Some();
    const PartKey key = TestPart(name.first, name.second);
    const bool pin = Pick(2) == 0;
    const absl::StatusOr<uint64_t> changed = store_->SetPinned({&key, 1}, pin);
    if (!changed.ok()) {
      ASSERT_THAT(changed, StatusIs(absl::StatusCode::kResourceExhausted));
      return;
    }
    const auto it = known_.find(name);
    if (*changed == 1) {
      ASSERT_TRUE(it != known_.end());
      it->second.pinned = pin;
    }
  }

  void Lease() {
    std::vector<PartKey> keys;
    std::set<Name> names;
    const uint64_t chain = Pick(kChains);
    for (uint32_t depth = 0; depth < kDepths; ++depth) {
      keys.push_back(TestPart(chain, depth));
      names.insert({chain, depth});
    }
    if (store_->AcquireLease(keys, std::chrono::seconds(30)) == 0) return;
    leased_ = names;
    lease_ends_ = clock_.Mono() + std::chrono::seconds(30);
  }

  void Restart() {
    ASSERT_OK(store_->Close());
    store_.reset();
    leased_.clear();
    Open();
  }

  void CheckFigures() {
    uint64_t exact = 0;
    uint64_t parts = 0;
    std::vector<PartState> states;
    std::string next;
    do {
      ASSERT_OK(store_->List(kTestScope, std::nullopt, "", next, 100, states, next));
    } while (!next.empty());
    for (const PartState& state : states) {
      exact += state.payload_bytes;
      ++parts;
    }
    EXPECT_EQ(store_->Usage(kTestScope).parts, parts);
    EXPECT_EQ(store_->Usage(kTestScope).bytes, exact);
    EXPECT_EQ(store_->parts(), parts);
    uint64_t by_shard = 0;
    for (const uint64_t bytes : store_->BytesByShard()) by_shard += bytes;
    EXPECT_EQ(by_shard, exact);
    const auto levels = store_->Levels();
    for (size_t i = 2; i < kLevelCount; ++i) {
      // Each stored byte is charged, and 256 for each part.
      EXPECT_EQ(levels[i].stats.used_bytes, levels[i].stats.live_bytes + 256 * levels[i].parts);
    }
  }

  TempDir dir_;
  UnsyncedFileSystem files_;
  FakeClock clock_;
  BlockStoreOptions options_;
  std::mt19937_64 random_;
  std::map<Name, Known> known_;
  std::set<Name> leased_;
  MonoTime lease_ends_;
  uint64_t versions_ = 0;
  std::unique_ptr<BlockStore> store_;
};

TEST(BlockStoreModelTest, AgreesWithAMap) {
  const char* const given = std::getenv("MNEMO_TEST_SEED");
  std::random_device device;
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : device();
  SCOPED_TRACE("MNEMO_TEST_SEED=" + std::to_string(seed));
  RecordProperty("seed", std::to_string(seed));
  for (uint64_t round = 0; round < 3; ++round) {
    Model model(seed + round);
    model.Run(1500);
  }
}

}  // namespace
}  // namespace mnemo
