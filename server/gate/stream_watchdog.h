// Ends streams whose client stands still, and endless ones at shutdown.
#pragma once

#include <atomic>
#include <thread>
#include <unordered_set>

#include "storage/base/clock.h"
#include "storage/base/mutex.h"

namespace mnemo {

// What the watchdog knows of a stream: since when it has waited for its client
// to send or to read. Time spent waiting for ourselves does not count.
class WatchedStream {
 public:
  virtual ~WatchedStream() = default;

  // The client has made no progress since before `since`. Called with the
  // watchdog's lock held, so the stream lives; it cancels itself, or takes away
  // the turn of the reaction that it waits for and returns true. Then EndStalled
  // is called, without a lock, and the stream must outlive that call.
  virtual bool OnStalled() = 0;
  virtual void EndStalled() {}
  // The deadline of what waits for the client has passed, as of WaitsUntil. Called with
  // the watchdog's lock held, at every look until another deadline was said.
  virtual void OnOverdue() {}
  // The daemon is shutting down; a stream without an end of its own ends now.
  // Called with the watchdog's lock held.
  virtual void OnShutdown() {}

 protected:
  // One kind of waiting. Begin and End belong to the stream's turn.
  class Wait {
   public:
    void Begin(MonoTime now) {
      since_ = carried_ == kNone ? now.time_since_epoch().count() : carried_;
    }
    // It came. What was too little to count as progress leaves the wait as old as
    // it was, so that a trickle does not keep a stream alive.
    void End(bool progress) {
      const int64_t since = since_.exchange(kNone);
      carried_ = progress ? kNone : since;
    }
    bool on() const { return since_ != kNone; }
    bool LongerThan(Nanos limit, MonoTime now) const {
      const int64_t since = since_;
      return since != kNone && now.time_since_epoch().count() - since >= limit.count();
    }

   private:
    static constexpr int64_t kNone = INT64_MIN;
    std::atomic<int64_t> since_{kNone};
    int64_t carried_ = kNone;
  };

  Wait reading_wait_;
  Wait writing_wait_;
  // Of the stream's turn. MonoTime::max(): nothing waits that has a deadline.
  void WaitsUntil(MonoTime deadline) { due_ = deadline.time_since_epoch().count(); }

 private:
  friend class StreamWatchdog;
  std::atomic<int64_t> due_{MonoTime::max().time_since_epoch().count()};
  bool Overdue(MonoTime now) const { return now.time_since_epoch().count() >= due_; }
  bool Stalled(Nanos limit, MonoTime now) const {
    return reading_wait_.LongerThan(limit, now) || writing_wait_.LongerThan(limit, now);
  }
};

// Thread-safe. One thread, which sleeps while there are no streams.
class StreamWatchdog {
 public:
  StreamWatchdog(Clock& clock, Nanos limit);
  ~StreamWatchdog();
  StreamWatchdog(const StreamWatchdog&) = delete;
  StreamWatchdog& operator=(const StreamWatchdog&) = delete;

  void Add(WatchedStream& stream);
  // Not called again for `stream` when this returns.
  void Remove(WatchedStream& stream);
  // Looks at all streams once; the thread does so every second.
  void Scan();
  // Tells every stream, and those that come later, that the daemon shuts down.
  void AnnounceShutdown();
  size_t streams() const;
  // How many streams wait for their client to send, and to read.
  struct Waiting {
    size_t for_input = 0;
    size_t for_output = 0;
  };
  Waiting waiting() const;

 private:
  void Run();

  Clock& clock_;
  const Nanos limit_;
  // Taken before the mutex of a stream.
  mutable Mutex mutex_;
  CondVar wake_;
  std::unordered_set<WatchedStream*> streams_ ABSL_GUARDED_BY(mutex_);
  bool shutting_down_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool sleeping_ ABSL_GUARDED_BY(mutex_) = false;  // until there is a stream
  std::thread thread_;
};

}  // namespace mnemo
