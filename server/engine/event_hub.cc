#include "server/engine/event_hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {

// The events of one space. Thread-safe.
class EventHub::Channel {
 public:

  explicit Channel(uint64_t first_sequence) : next_(first_sequence + 1) {}

  // Returns the waiters to wake, outside of the lock.
  std::vector<std::function<void()>> Append(BlockEvent event) {
    MutexLock lock(mutex_);
    event.sequence = next_++;
    events_.push_back(std::move(event));
    if (events_.size() > kHistory) events_.pop_front();
    return std::exchange(waiting_, {});
  }

  uint64_t last_sequence() const {
    MutexLock lock(mutex_);
    return next_ - 1;
  }

  // Events behind `cursor`, or registers `wake` if there are none.
  absl::StatusOr<std::vector<BlockEvent>> ReadBehind(uint64_t cursor, size_t limit,
                                                     const std::function<void()>& wake) {
    MutexLock lock(mutex_);
    const uint64_t first_kept = next_ - events_.size();
    if (cursor + 1 < first_kept || cursor >= next_) {
      return absl::OutOfRangeError(fmt::format(
          "from_sequence {} is not in the history, {} to {}; watch anew from 0", cursor,
          first_kept - 1, next_ - 1));
    }
    const size_t skip = cursor + 1 - first_kept;
    const size_t count = std::min(limit, events_.size() - skip);
    if (count == 0) waiting_.push_back(wake);
    const auto begin = events_.begin() + static_cast<ptrdiff_t>(skip);
    return std::vector<BlockEvent>(begin, begin + static_cast<ptrdiff_t>(count));
  }

 private:
  mutable Mutex mutex_;
  uint64_t next_ ABSL_GUARDED_BY(mutex_);
  std::deque<BlockEvent> events_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
};

namespace {

class Subscription final : public EventSubscription {
 public:
  Subscription(std::shared_ptr<EventHub::Channel> channel, uint64_t cursor,
               EventHub::SnapshotPage list, std::function<void()> wake)
      : channel_(std::move(channel)),
        cursor_(cursor),
        list_(std::move(list)),
        wake_(std::move(wake)) {}

  absl::StatusOr<std::vector<BlockEvent>> Take(size_t limit) override {
    if (list_) return TakeSnapshot(limit);
    absl::StatusOr<std::vector<BlockEvent>> events = channel_->ReadBehind(cursor_, limit, wake_);
    if (!events.ok()) {
      return absl::ResourceExhaustedError(
          fmt::format("the reader fell more than {} events behind", EventHub::kHistory));
    }
    if (!events->empty()) cursor_ = events->back().sequence;
    return events;
  }

 private:
  absl::StatusOr<std::vector<BlockEvent>> TakeSnapshot(size_t limit) {
    std::vector<PartState> parts;
    std::string next;
    MNEMO_RETURN_IF_ERROR(list_(after_, limit, parts, next));
    std::vector<BlockEvent> events;
    events.reserve(parts.size() + 1);
    for (const PartState& part : parts) {
      if (part.pending) continue;
      events.push_back({.kind = BlockEvent::Kind::kStored,
                        .key = part.key,
                        .depth = part.depth,
                        .level = part.level});
    }
    after_ = next;
    if (next.empty()) {
      events.push_back({.sequence = cursor_, .kind = BlockEvent::Kind::kSnapshotEnd});
      list_ = nullptr;
    }
    return events;
  }

  const std::shared_ptr<EventHub::Channel> channel_;
  uint64_t cursor_;
  EventHub::SnapshotPage list_;  // until the snapshot is complete
  std::string after_;
  const std::function<void()> wake_;
};

}  // namespace

void EventHub::Append(KeyScope scope, BlockEvent event) {
  std::shared_ptr<Channel> channel;
  {
    MutexLock lock(mutex_);
    const auto found = channels_.find(scope);
    if (found == channels_.end()) return;
    channel = found->second;
  }
  for (const std::function<void()>& wake : channel->Append(std::move(event))) wake();
}

void EventHub::Publish(const PartEvent& event) {
  BlockEvent out{.key = event.key, .depth = event.depth};
  switch (event.kind) {
    case PartEvent::Kind::kStored:
      out.kind = BlockEvent::Kind::kStored;
      out.level = event.level;
      break;
    case PartEvent::Kind::kMoved:
      out.kind = BlockEvent::Kind::kMoved;
      out.level = event.level;
      break;
    case PartEvent::Kind::kRemoved:
      out.kind = BlockEvent::Kind::kRemoved;
      break;
  }
  Append(event.key.scope, std::move(out));
}

void EventHub::PublishCleared(KeyScope scope) {
  Append(scope, {.kind = BlockEvent::Kind::kCleared});
}

absl::StatusOr<std::unique_ptr<EventSubscription>> EventHub::Subscribe(
    KeyScope scope, uint64_t from_sequence, SnapshotPage list, std::function<void()> wake) {
  std::shared_ptr<Channel> channel;
  {
    MutexLock lock(mutex_);
    std::shared_ptr<Channel>& slot = channels_[scope];
    if (!slot) slot = std::make_shared<Channel>(first_sequence_);
    channel = slot;
  }
  uint64_t cursor = channel->last_sequence();
  if (from_sequence != 0) {
    MNEMO_RETURN_IF_ERROR(channel->ReadBehind(from_sequence, 0, [] {}).status());
    cursor = from_sequence;
    list = nullptr;
  }
  return std::make_unique<Subscription>(std::move(channel), cursor, std::move(list),
                                        std::move(wake));
}

}  // namespace mnemo
