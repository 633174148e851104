#include "server/transfer/copy_crew.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "storage/base/mutex.h"

namespace mnemo {
namespace {

TEST(CopyCrewTest, RunsEachPieceOnce) {
  for (const size_t helpers : {0, 1, 3}) {
    CopyCrew crew(helpers);
    for (const size_t count : {0, 1, 3, 4, 5, 100}) {
      std::vector<std::atomic<int>> runs(count);
      crew.ForEach(count, [&](size_t i) { ++runs[i]; });
      for (const std::atomic<int>& run : runs) EXPECT_EQ(run, 1);
    }
  }
}

TEST(CopyCrewTest, AHelperTakesPiecesWhileTheCallerIsAtOne) {
  CopyCrew crew(1);
  const auto caller = std::this_thread::get_id();
  absl::Notification helped;
  crew.ForEach(8, [&](size_t) {
    // The caller goes on once somebody else has a piece: without a helper, never.
    if (std::this_thread::get_id() == caller) {
      helped.WaitForNotification();
    } else if (!helped.HasBeenNotified()) {
      helped.Notify();
    }
  });
  EXPECT_TRUE(helped.HasBeenNotified());
}

TEST(CopyCrewTest, ReturnsOnlyWhenTheHelpersPieceHasEnded) {
  CopyCrew crew(1);
  const auto caller = std::this_thread::get_id();
  absl::Notification begun;
  absl::Notification go_on;
  std::atomic<bool> returned{false};
  std::thread watcher([&] {
    begun.WaitForNotification();
    EXPECT_FALSE(returned);
    go_on.Notify();
  });
  std::atomic<int> ended{0};
  crew.ForEach(4, [&](size_t) {
    if (std::this_thread::get_id() == caller) {
      begun.WaitForNotification();
    } else if (!begun.HasBeenNotified()) {
      begun.Notify();
      go_on.WaitForNotification();
    }
    ++ended;
  });
  returned = true;
  EXPECT_EQ(ended, 4);
  watcher.join();
}

TEST(CopyCrewTest, ASecondCopyMeanwhileIsItsCallersAlone) {
  CopyCrew crew(1);
  const auto caller = std::this_thread::get_id();
  absl::Notification helped;
  crew.ForEach(4, [&](size_t) {
    if (std::this_thread::get_id() != caller) {
      if (!helped.HasBeenNotified()) helped.Notify();
      return;
    }
    helped.WaitForNotification();
    const auto own = std::this_thread::get_id();
    crew.ForEach(16, [&](size_t) { EXPECT_EQ(std::this_thread::get_id(), own); });
  });
  // And the next is helped again.
  absl::Notification again;
  crew.ForEach(4, [&](size_t) {
    if (std::this_thread::get_id() == caller) {
      again.WaitForNotification();
    } else if (!again.HasBeenNotified()) {
      again.Notify();
    }
  });
}

}  // namespace
}  // namespace mnemo
