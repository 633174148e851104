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

struct BlockEvent {
  enum class Kind : uint8_t { kStored, kMoved, kRemoved, kCleared, kSnapshotEnd };
  uint64_t sequence = 0;
  Kind kind = Kind::kStored;
  PartKey key;
  uint32_t depth = 0;
  std::optional<Level> level;
};

// A reader of one space's events. Thread-safe. Destroying it ends the watch.
class EventSubscription {
 public:
  // `wake` is called, without any lock held, when events may be taken after a
  // Take that gave none, or when the watch has failed.
  virtual ~EventSubscription() = default;
  // Takes up to `limit` events in order. Empty: none yet; `wake` will be
  // called. Errors: kResourceExhausted (the reader fell more than
  // kMaxBacklog events behind; the watch has ended).
  virtual absl::StatusOr<std::vector<BlockEvent>> Take(size_t limit) = 0;
};

// Numbers the events of each space without gaps, keeps the last kHistory of
// them for readers that come back, and cuts readers that are too slow.
// Thread-safe. Sequences begin anew at a restart, above every earlier one.
class EventHub {
 public:
  static constexpr size_t kHistory = 8192;
  static constexpr size_t kMaxBacklog = 65536;

  // Sequences of spaces that are new to this hub start above `first_sequence`.
  explicit EventHub(uint64_t first_sequence) : first_sequence_(first_sequence) {}

  void Publish(const PartEvent& event);
  void PublishCleared(KeyScope scope);

  // With `from_sequence`, continues behind it. Errors: kOutOfRange (not in the
  // history). Otherwise starts with a snapshot: `list` is called page by page,
  // outside of every lock, as the reader takes events.
  using SnapshotPage =
      std::function<absl::Status(const std::string& after, size_t limit,
                                 std::vector<PartState>& parts, std::string& next)>;
  absl::StatusOr<std::unique_ptr<EventSubscription>> Subscribe(KeyScope scope,
                                                               uint64_t from_sequence,
                                                               SnapshotPage list,
                                                               std::function<void()> wake);

  struct Channel;

 private:
  std::shared_ptr<Channel> ChannelOf(KeyScope scope, bool create);

  const uint64_t first_sequence_;
  Mutex mutex_;  // taken before a channel's own
  std::map<KeyScope, std::shared_ptr<Channel>> channels_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo
