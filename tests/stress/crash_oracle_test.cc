// The oracle of the crash test must see what it is there for.
#include "tests/stress/crash_oracle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mnemo {
namespace {

using Kind = CrashRecord::Kind;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint32_t kCacheKey = 0;
constexpr uint32_t kIntervalKey = kCrashThreads;
constexpr uint32_t kOtherIntervalKey = kCrashThreads + 1;
constexpr uint32_t kSyncKey = 2 * kCrashThreads;
constexpr int64_t kSecond = 1'000'000'000;

class CrashOracleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(ClassOfKey(kCacheKey), Durability::kCache);
    ASSERT_EQ(ClassOfKey(kIntervalKey), Durability::kInterval);
    ASSERT_EQ(ClassOfKey(kOtherIntervalKey), Durability::kInterval);
    ASSERT_EQ(ClassOfKey(kSyncKey), Durability::kSync);
    Restart({});
  }
  void Say(Kind kind, uint32_t key, uint64_t version, int64_t at) {
    CrashRecord record;
    record.kind = kind;
    record.key = key;
    record.version = version;
    record.nanos = at;
    oracle_.Take(record);
  }
  void Put(uint32_t key, uint64_t version, int64_t at, bool acknowledged = true) {
    Say(Kind::kBeginPut, key, version, at);
    if (acknowledged) Say(Kind::kAcknowledged, key, version, at + 1);
  }
  void Erase(uint32_t key, int64_t at) {
    Say(Kind::kBeginErase, key, 0, at);
    Say(Kind::kAcknowledged, key, 0, at + 1);
  }
  void Restart(const std::vector<std::pair<uint32_t, uint64_t>>& there) {
    for (uint32_t key = 0; key < kCrashKeys; ++key) Say(Kind::kFound, key, 0, 0);
    for (const auto& [key, version] : there) Say(Kind::kFound, key, version, 0);
    Say(Kind::kReady, 0, 0, 0);
  }

  CrashOracle oracle_{std::chrono::seconds(1)};
};

TEST_F(CrashOracleTest, AcceptsWhatMayBe) {
  Put(kSyncKey, 1, 1 * kSecond);
  Put(kIntervalKey, 1, 1 * kSecond);
  Put(kCacheKey, 1, 1 * kSecond);
  Put(kOtherIntervalKey, 1, 5 * kSecond);
  oracle_.Crashed(5 * kSecond + 2);
  Restart({{kSyncKey, 1}, {kIntervalKey, 1}});
  EXPECT_THAT(oracle_.violations(), IsEmpty());
  EXPECT_EQ(oracle_.lost(Durability::kInterval), 1u);
}

TEST_F(CrashOracleTest, SeesALostSyncPut) {
  Put(kSyncKey, 1, kSecond);
  Restart({});
  EXPECT_THAT(oracle_.violations(), Contains(HasSubstr("class 3: version 0")));
}

TEST_F(CrashOracleTest, SeesADeletedSyncPartThatIsBack) {
  Put(kSyncKey, 1, kSecond);
  Erase(kSyncKey, 2 * kSecond);
  Restart({{kSyncKey, 1}});
  EXPECT_THAT(oracle_.violations(), Contains(HasSubstr("version 1 is there")));
}

TEST_F(CrashOracleTest, LetsAnUnacknowledgedPutBeThereOrNot) {
  Put(kSyncKey, 1, kSecond, false);
  Restart({{kSyncKey, 1}});
  Erase(kSyncKey, 2 * kSecond);
  Put(kSyncKey, 2, 3 * kSecond, false);
  Restart({});
  EXPECT_THAT(oracle_.violations(), IsEmpty());
}

TEST_F(CrashOracleTest, SeesAnIntervalPutLostBeforeTheWindow) {
  Put(kIntervalKey, 1, 1 * kSecond);
  oracle_.Crashed(3 * kSecond);
  Restart({});
  EXPECT_THAT(oracle_.violations(), Contains(HasSubstr("before the crash")));
}

TEST_F(CrashOracleTest, SeesAHoleInWhatIntervalKept) {
  Put(kIntervalKey, 1, 10 * kSecond);
  Put(kOtherIntervalKey, 1, 10 * kSecond + 100);
  oracle_.Crashed(10 * kSecond + 200);
  Restart({{kOtherIntervalKey, 1}});
  EXPECT_THAT(oracle_.violations(), Contains(HasSubstr("no suffix")));
}

TEST_F(CrashOracleTest, TakesOnlyTheFirstOfTwoErasuresForEvidence) {
  Put(kOtherIntervalKey, 3, kSecond / 2);
  Restart({{kOtherIntervalKey, 3}});
  Erase(kOtherIntervalKey, 1 * kSecond);
  Put(kIntervalKey, 1, 2 * kSecond);
  Erase(kOtherIntervalKey, 2 * kSecond + 10);
  oracle_.Crashed(2 * kSecond + 20);
  Restart({});
  EXPECT_THAT(oracle_.violations(), IsEmpty());
}

TEST_F(CrashOracleTest, SeesAHoleBeforeAnErasureThatWasKept) {
  Put(kOtherIntervalKey, 3, kSecond / 2);
  Restart({{kOtherIntervalKey, 3}});
  Put(kIntervalKey, 1, 2 * kSecond);
  Erase(kOtherIntervalKey, 2 * kSecond + 10);
  oracle_.Crashed(2 * kSecond + 20);
  Restart({});
  EXPECT_THAT(oracle_.violations(), Contains(HasSubstr("no suffix")));
}

TEST_F(CrashOracleTest, SeesACacheVersionThatNobodyWrote) {
  Put(kCacheKey, 1, kSecond);
  Restart({{kCacheKey, 2}});
  EXPECT_THAT(oracle_.violations(), Contains(HasSubstr("never written")));
}

TEST_F(CrashOracleTest, SeesWrongBytes) {
  Say(Kind::kWrong, kCacheKey, 1, 0);
  EXPECT_THAT(oracle_.violations(), Contains(HasSubstr("wrong bytes")));
}

}  // namespace
}  // namespace mnemo
