// A thousand peers of streams over TCP that stand still in the middle of something.
#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "storage/base/units.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/server/transfer/streams/bulk_peer.h"

namespace mnemo {
namespace {

using stream::CloseReason;

constexpr size_t kCrowd = 1000;
constexpr uint64_t kBudget = 128 * kMiB;

class BulkCrowdTest : public BulkStreamTest {
 protected:
  BulkCrowdTest() : BulkStreamTest({}, {.inflight_bytes = kBudget}) {}
  std::vector<StreamPeer> Crowd() {
    std::vector<StreamPeer> crowd;
    crowd.reserve(kCrowd);
    for (size_t i = 0; i < kCrowd; ++i) crowd.push_back(Known());
    return crowd;
  }
};

TEST_F(BulkCrowdTest, WhoSendsAndNeverFinishesIsCutAndLeavesNothing) {
  constexpr uint64_t kBytes = 16 * kKiB;
  const uint64_t before = store_->Levels()[0].stats.live_bytes;
  std::vector<StreamPeer> crowd = Crowd();
  for (size_t i = 0; i < kCrowd; ++i) {
    const std::string key = std::to_string(i);
    const uint64_t id = BeginPut(crowd[i], key, kBytes);
    ASSERT_TRUE(ReadCredit(crowd[i], id));
    // In the middle of the head, and of the payload.
    const std::string frame = DataFrame(id, 0, 0, PayloadOf(kBytes, 1));
    crowd[i].Write(std::string_view(frame).substr(0, 1 + i * 16 % (frame.size() - 1)));
  }
  // All of them are in the middle at once, each with what it was credited.
  EXPECT_GE(gate_->bytes().used(), kCrowd * kBytes);
  EXPECT_LE(gate_->bytes().used(), kBudget);
  PassUntilStalled(kCrowd);
  AwaitNoConnections();
  EXPECT_EQ(gate_->bytes().used(), 0u);
  EXPECT_EQ(store_->Levels()[0].stats.live_bytes, before);
  for (const size_t i : {size_t{0}, kCrowd / 2, kCrowd - 1}) EXPECT_FALSE(Holds(std::to_string(i)));
  StreamPeer good = Known();
  EXPECT_OK(Put(good, "0", "0123456789"));
}

TEST_F(BulkCrowdTest, WhoNeverReadsTakesNoMoreThanTheBudget) {
  constexpr uint64_t kBytes = 16 * kMiB;  // more than sockets hold
  StreamPeer good = Known();
  ASSERT_OK(Put(good, "k", PayloadOf(kBytes, 1)));
  std::vector<StreamPeer> crowd = Crowd();
  uint64_t most = 0;
  for (StreamPeer& peer : crowd) {
    BeginGet(peer, "k", kBytes);
    most = std::max(most, gate_->bytes().used());
  }
  // As many as the budget has room for stand still with a part each.
  constexpr uint64_t kStanding = kBudget / kBytes - 1;
  while (gate_->watchdog().waiting().for_output < kStanding) std::this_thread::yield();
  most = std::max(most, gate_->bytes().used());
  EXPECT_LE(most, kBudget);
  EXPECT_GE(most, kStanding * kBytes);
  // Once they are cut, others have their turn.
  PassUntilStalled(kStanding);
  EXPECT_LE(gate_->bytes().used(), kBudget);
  crowd.clear();
  while (server_->connections() > 1) std::this_thread::yield();
  EXPECT_EQ(gate_->bytes().used(), 0u);
  const auto got = Get(good, "k", kBytes);
  ASSERT_OK(got);
  EXPECT_TRUE(*got == PayloadOf(kBytes, 1));
}

}  // namespace
}  // namespace mnemo
