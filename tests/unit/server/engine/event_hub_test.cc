#include "server/engine/event_hub.h"

#include <atomic>
#include <thread>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

constexpr KeyScope kScope{1, 7};

PartEvent Stored(std::string_view key) {
  return {.kind = PartEvent::Kind::kStored,
          .key = {.scope = kScope, .key = *BlockKey::From(key)},
          .level = Level::kL1};
}

// A snapshot of these keys, `page` at a time.
EventHub::SnapshotPage SnapshotOf(std::vector<std::string> keys, size_t page) {
  return [keys, page](const std::string& after, size_t, std::vector<PartState>& parts,
                      std::string& next) {
    const size_t begin = after.empty() ? 0 : std::stoul(after);
    const size_t end = std::min(keys.size(), begin + page);
    for (size_t i = begin; i < end; ++i) {
      parts.push_back({.key = {.scope = kScope, .key = *BlockKey::From(keys[i])}});
    }
    next = end == keys.size() ? "" : std::to_string(end);
    return absl::OkStatus();
  };
}

std::vector<BlockEvent> TakeAll(EventSubscription& subscription) {
  std::vector<BlockEvent> all;
  for (;;) {
    auto events = subscription.Take(2);
    EXPECT_OK(events);
    if (!events.ok() || events->empty()) return all;
    all.insert(all.end(), events->begin(), events->end());
  }
}

TEST(EventHubTest, TellsASnapshotThenItsEndThenChanges) {
  EventHub hub(100);
  ASSERT_OK_AND_ASSIGN(auto watch, hub.Subscribe(kScope, 0, SnapshotOf({"a", "b", "c"}, 2), [] {}));
  hub.Publish(Stored("d"));
  const std::vector<BlockEvent> events = TakeAll(*watch);
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[2].key.key.view(), "c");
  EXPECT_EQ(events[3].kind, BlockEvent::Kind::kSnapshotEnd);
  EXPECT_EQ(events[4].key.key.view(), "d");
  EXPECT_EQ(events[4].sequence, 101u);
}

TEST(EventHubTest, NumbersWithoutGaps) {
  EventHub hub(0);
  ASSERT_OK_AND_ASSIGN(auto watch, hub.Subscribe(kScope, 0, SnapshotOf({}, 1), [] {}));
  for (int i = 0; i < 10; ++i) hub.Publish(Stored("k"));
  hub.PublishCleared(kScope);
  uint64_t expected = 0;
  for (const BlockEvent& event : TakeAll(*watch)) EXPECT_EQ(event.sequence, expected++);
  EXPECT_EQ(expected, 12u);
}

TEST(EventHubTest, ContinuesBehindASequence) {
  EventHub hub(0);
  ASSERT_OK_AND_ASSIGN(auto first, hub.Subscribe(kScope, 0, SnapshotOf({}, 1), [] {}));
  for (int i = 0; i < 5; ++i) hub.Publish(Stored("k"));
  ASSERT_OK_AND_ASSIGN(auto second, hub.Subscribe(kScope, 3, SnapshotOf({"x"}, 1), [] {}));
  const std::vector<BlockEvent> events = TakeAll(*second);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].sequence, 4u);
}

TEST(EventHubTest, RefusesASequenceFromBeforeARestart) {
  EventHub hub(1000);
  EXPECT_THAT(hub.Subscribe(kScope, 7, SnapshotOf({}, 1), [] {}),
              StatusIs(absl::StatusCode::kOutOfRange, testing::HasSubstr("watch anew from 0")));
  EXPECT_THAT(hub.Subscribe(kScope, 5000, SnapshotOf({}, 1), [] {}),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST(EventHubTest, AHistoryThatWasForgottenIsNotNumberedAnew) {
  EventHub hub(0);
  {
    ASSERT_OK_AND_ASSIGN(auto watch, hub.Subscribe(kScope, 0, SnapshotOf({}, 1), [] {}));
    for (int i = 0; i < 5; ++i) hub.Publish(Stored("k"));
  }
  for (uint64_t space = 100; space <= 100 + EventHub::kIdleSpaces; ++space) {
    ASSERT_OK(hub.Subscribe({1, space}, 0, SnapshotOf({}, 1), [] {}));
  }
  // A reader that had all five goes on; one that had fewer learns that it cannot.
  ASSERT_OK_AND_ASSIGN(auto watch, hub.Subscribe(kScope, 5, SnapshotOf({}, 1), [] {}));
  hub.Publish(Stored("new"));
  const std::vector<BlockEvent> events = TakeAll(*watch);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].sequence, 6u);
  EXPECT_THAT(hub.Subscribe(kScope, 3, SnapshotOf({}, 1), [] {}),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST(EventHubTest, CutsAReaderThatIsTooFarBehind) {
  EventHub hub(0);
  ASSERT_OK_AND_ASSIGN(auto watch, hub.Subscribe(kScope, 0, SnapshotOf({}, 1), [] {}));
  ASSERT_OK(watch->Take(1));
  for (size_t i = 0; i <= EventHub::kHistory; ++i) hub.Publish(Stored("k"));
  EXPECT_THAT(watch->Take(1), StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(EventHubTest, WakesOnceAfterATakeThatGaveNothing) {
  EventHub hub(0);
  int wakes = 0;
  ASSERT_OK_AND_ASSIGN(auto watch, hub.Subscribe(kScope, 0, SnapshotOf({}, 1), [&] { ++wakes; }));
  hub.Publish(Stored("a"));
  EXPECT_EQ(wakes, 0);
  TakeAll(*watch);
  hub.Publish(Stored("b"));
  hub.Publish(Stored("c"));
  EXPECT_EQ(wakes, 1);
}

TEST(EventHubTest, OtherSpacesAreNotHeard) {
  EventHub hub(0);
  ASSERT_OK_AND_ASSIGN(auto watch, hub.Subscribe({1, 8}, 0, SnapshotOf({}, 1), [] {}));
  hub.Publish(Stored("a"));
  EXPECT_EQ(TakeAll(*watch).size(), 1u);  // the end of the snapshot alone
}

TEST(EventHubTest, MissesNothingThatIsPublishedDuringTheSnapshot) {
  EventHub hub(0);
  std::atomic<bool> started{false};
  ASSERT_OK_AND_ASSIGN(auto watch,
                       hub.Subscribe(kScope, 0, SnapshotOf({"a", "b", "c", "d"}, 1), [] {}));
  std::thread writer([&] {
    for (int i = 0; i < 1000; ++i) {
      hub.Publish(Stored("x"));
      started = true;
    }
  });
  while (!started) std::this_thread::yield();
  std::vector<BlockEvent> events = TakeAll(*watch);
  writer.join();
  const std::vector<BlockEvent> rest = TakeAll(*watch);
  EXPECT_EQ(events.size() + rest.size(), 4u + 1u + 1000u);
}

}  // namespace
}  // namespace mnemo
