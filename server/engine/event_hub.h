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

// A reader of one space's events. Not thread-safe. Destroying it ends the watch.
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
// kHistory of them, for readers that are slow or come back. A space that nobody
// has watched costs nothing. Thread-safe.
class EventHub {
 public:
  static constexpr size_t kHistory = 65536;

  // Sequences start above `first_sequence`; a caller that gives microseconds
  // since the epoch makes them start above those of any earlier process, so
  // that a reader from before a restart is told to begin anew.
  explicit EventHub(uint64_t first_sequence) : first_sequence_(first_sequence) {}

  void Publish(const PartEvent& event);
  void PublishCleared(KeyScope scope);

  using SnapshotPage = std::function<absl::Status(const std::string& after, size_t limit,
                                                  std::vector<PartState>& parts, std::string& next)>;
  // With `from_sequence`, continues behind it. Errors: kOutOfRange (not in the
  // history). Otherwise starts with a snapshot, read page by page from `list`
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
  void Append(KeyScope scope, BlockEvent event);

  const uint64_t first_sequence_;
  Mutex mutex_;
  // Channels live as long as the hub; shared with subscriptions that may
  // outlive a deleted space.
  std::map<KeyScope, std::shared_ptr<Channel>> channels_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo
