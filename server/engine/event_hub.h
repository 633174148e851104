// Who watches which space, and what they have not read yet.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/mutex.h"
#include "storage/block/block_store.h"

namespace mnemo {

// What watchers are told; `key` and `level` as far as the kind has them.
struct BlockEvent {
  enum class Kind : uint8_t { kStored, kMoved, kRemoved, kCleared, kSnapshotEnd };
  uint64_t sequence = 0;
  Kind kind = Kind::kStored;
  PartKey key;
  uint32_t depth = 0;
  std::optional<Level> level;
};

// A reader of one space's events. Not thread-safe. Destroying it ends the watch;
// the hub outlives it.
class EventSubscription {
 public:
  virtual ~EventSubscription() = default;
  // Takes up to `limit` events in order. Empty: none yet, and the `wake` of
  // Subscribe will be called once when there are. Errors: kResourceExhausted
  // (the reader fell more than kHistory events behind; the watch has ended),
  // and those of the snapshot.
  virtual absl::StatusOr<std::vector<BlockEvent>> Take(size_t limit) = 0;
};

// Numbers the events of each watched space without gaps and keeps the last
// kHistory of them, for readers that are slow or come back; fewer where more
// than kFullHistories spaces are watched, so that memory stays bounded. A space that nobody
// has watched costs nothing; of those that are not watched any more kIdleSpaces
// are remembered. Thread-safe.
class EventHub {
 public:
  static constexpr size_t kHistory = 65536;
  static constexpr size_t kFullHistories = 4;
  static constexpr size_t kIdleSpaces = 4;
  static constexpr size_t kMaxWatchers = 1024;

  // Sequences start above `first_sequence`; a caller that gives microseconds
  // since the epoch makes them start above those of any earlier process, so
  // that a reader from before a restart is told to begin anew.
  explicit EventHub(uint64_t first_sequence) : first_sequence_(first_sequence) {}

  void Publish(const PartEvent& event);
  void PublishCleared(KeyScope scope);

  using SnapshotPage = std::function<absl::Status(const std::string& after, size_t limit,
                                                  std::vector<PartState>& parts, std::string& next)>;
  // With `from_sequence`, continues behind it. Errors: kOutOfRange (not in the
  // history), kResourceExhausted (kMaxWatchers). Otherwise starts with a snapshot, read page by page from `list`
  // as the reader takes events, without a lock held; changes meanwhile follow
  // it, so some are told twice and none is missed.
  //
  // `wake` is called without a lock held, and possibly just after the
  // subscription is gone: it owns what it touches.
  absl::StatusOr<std::unique_ptr<EventSubscription>> Subscribe(KeyScope scope,
                                                               uint64_t from_sequence,
                                                               SnapshotPage list,
                                                               std::function<void()> wake);

  class Channel;

 private:
  class Subscription;
  struct Watched {
    std::shared_ptr<Channel> channel;  // shared with whoever appends or reads just now
    size_t watchers = 0;
    uint64_t idle_since = 0;  // a count of subscriptions that ended
  };
  void Append(KeyScope scope, BlockEvent event);
  void EndSubscription(KeyScope scope);
  void ForgetIdleLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  // Above every number that was given in a space which was forgotten since.
  uint64_t first_sequence_ ABSL_GUARDED_BY(mutex_);
  uint64_t ended_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t watchers_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<KeyScope, Watched> channels_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo
