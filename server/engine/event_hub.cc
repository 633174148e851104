#include "server/engine/event_hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {

// The events of one space. Thread-safe. Its lock is taken after the hub's.
class EventHub::Channel {
 public:
  explicit Channel(uint64_t first_sequence) : next_(first_sequence + 1) {}

  // Returns the waiters to wake, outside of the lock.
  std::vector<std::function<void()>> Append(BlockEvent event, size_t history) {
    MutexLock lock(mutex_);
    event.sequence = next_++;
    events_.push_back(std::move(event));
    while (events_.size() > history) events_.pop_front();
    std::vector<std::function<void()>> woken;
    for (auto& [reader, wake] : std::exchange(waiting_, {})) woken.push_back(std::move(wake));
    return woken;
  }

  uint64_t last_sequence() const {
    MutexLock lock(mutex_);
    return next_ - 1;
  }

  // Events behind `cursor`, or registers `wake` for `reader` if there are none.
  absl::StatusOr<std::vector<BlockEvent>> ReadBehind(uint64_t cursor, size_t limit,
                                                     const void* reader,
                                                     const std::function<void()>& wake) {
    MutexLock lock(mutex_);
    MNEMO_RETURN_IF_ERROR(CheckKeptLocked(cursor));
    const size_t skip = cursor + 1 - (next_ - events_.size());
    const size_t count = std::min(limit, events_.size() - skip);
    if (count == 0) waiting_[reader] = wake;
    const auto begin = events_.begin() + static_cast<ptrdiff_t>(skip);
    return std::vector<BlockEvent>(begin, begin + static_cast<ptrdiff_t>(count));
  }

  absl::Status CheckKept(uint64_t cursor) const {
    MutexLock lock(mutex_);
    return CheckKeptLocked(cursor);
  }

  void Leave(const void* reader) {
    MutexLock lock(mutex_);
    waiting_.erase(reader);
  }

 private:
  absl::Status CheckKeptLocked(uint64_t cursor) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const uint64_t first_kept = next_ - events_.size();
    if (cursor + 1 >= first_kept && cursor < next_) return absl::OkStatus();
    return absl::OutOfRangeError(
        fmt::format("from_sequence {} is not in the history, {} to {}; watch anew from 0", cursor,
                    first_kept - 1, next_ - 1));
  }

  mutable Mutex mutex_;
  uint64_t next_ ABSL_GUARDED_BY(mutex_);
  std::deque<BlockEvent> events_ ABSL_GUARDED_BY(mutex_);
  std::map<const void*, std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
};

class EventHub::Subscription final : public EventSubscription {
 public:
  Subscription(EventHub& hub, KeyScope scope, std::shared_ptr<Channel> channel, uint64_t cursor,
               SnapshotPage list, std::function<void()> wake)
      : hub_(hub),
        scope_(scope),
        channel_(std::move(channel)),
        cursor_(cursor),
        list_(std::move(list)),
        wake_(std::move(wake)) {}
  ~Subscription() override {
    channel_->Leave(this);
    hub_.EndSubscription(scope_);
  }

  absl::StatusOr<std::vector<BlockEvent>> Take(size_t limit) override {
    while (list_) {
      MNEMO_ASSIGN_OR_RETURN(std::vector<BlockEvent> page, TakeSnapshot(limit));
      // A page of parts that are being written has nothing to tell.
      if (!page.empty()) return page;
    }
    absl::StatusOr<std::vector<BlockEvent>> events =
        channel_->ReadBehind(cursor_, limit, this, wake_);
    if (!events.ok()) {
      return absl::ResourceExhaustedError(
          fmt::format("the reader fell too far behind; up to {} events are kept", kHistory));
    }
    if (!events->empty()) cursor_ = events->back().sequence;
    return events;
  }

 private:
  absl::StatusOr<std::vector<BlockEvent>> TakeSnapshot(size_t limit) {
    std::vector<BlockEvent> events;
    if (!listed_) {
      std::vector<PartState> parts;
      std::string next;
      MNEMO_RETURN_IF_ERROR(list_(after_, limit, parts, next));
      for (const PartState& part : parts) {
        if (part.pending) continue;
        events.push_back({.kind = BlockEvent::Kind::kStored,
                          .key = part.key,
                          .depth = part.depth,
                          .level = part.level});
      }
      after_ = next;
      listed_ = next.empty();
    }
    if (listed_ && events.size() < limit) {
      events.push_back({.sequence = cursor_, .kind = BlockEvent::Kind::kSnapshotEnd});
      list_ = nullptr;
    }
    return events;
  }

  EventHub& hub_;
  const KeyScope scope_;
  const std::shared_ptr<Channel> channel_;
  uint64_t cursor_;
  SnapshotPage list_;  // until the snapshot is complete
  bool listed_ = false;
  std::string after_;
  const std::function<void()> wake_;
};

void EventHub::Append(KeyScope scope, BlockEvent event) {
  std::vector<std::function<void()>> woken;
  {
    MutexLock lock(mutex_);
    const auto found = channels_.find(scope);
    if (found == channels_.end()) return;
    const size_t spaces = std::max(kFullHistories, channels_.size());
    woken = found->second.channel->Append(std::move(event), kHistory * kFullHistories / spaces);
  }
  for (const std::function<void()>& wake : woken) wake();
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
  uint64_t cursor = from_sequence;
  {
    MutexLock lock(mutex_);
    if (watchers_ == kMaxWatchers) {
      return absl::ResourceExhaustedError(
          fmt::format("{} watches are open; at most {} may be", watchers_, kMaxWatchers));
    }
    const auto found = channels_.find(scope);
    if (found != channels_.end()) {
      channel = found->second.channel;
    } else {
      channel = std::make_shared<Channel>(first_sequence_);
    }
    if (from_sequence != 0) {
      MNEMO_RETURN_IF_ERROR(channel->CheckKept(from_sequence));
      list = nullptr;
    } else {
      cursor = channel->last_sequence();
    }
    Watched& watched = channels_[scope];
    watched.channel = channel;
    ++watched.watchers;
    ++watchers_;
  }
  return std::make_unique<Subscription>(*this, scope, std::move(channel), cursor, std::move(list),
                                        std::move(wake));
}

void EventHub::EndSubscription(KeyScope scope) {
  MutexLock lock(mutex_);
  Watched& watched = channels_.at(scope);
  --watchers_;
  if (--watched.watchers != 0) return;
  watched.idle_since = ++ended_;
  ForgetIdleLocked();
}

void EventHub::ForgetIdleLocked() {
  auto oldest = channels_.end();
  size_t idle = 0;
  for (auto it = channels_.begin(); it != channels_.end(); ++it) {
    if (it->second.watchers != 0) continue;
    ++idle;
    if (oldest == channels_.end() || it->second.idle_since < oldest->second.idle_since) {
      oldest = it;
    }
  }
  if (idle <= kIdleSpaces) return;
  // Were numbers given twice, a reader that comes back would miss what lies between.
  first_sequence_ = std::max(first_sequence_, oldest->second.channel->last_sequence());
  channels_.erase(oldest);
}

}  // namespace mnemo
