// One thread that waits for many sockets.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/busy_wait.h"
#include "storage/base/descriptor.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Thread-safe. Costs nothing while nothing happens; between events that follow one
// another soon its thread does not sleep.
class EventLoop {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    // On the loop's thread. `events` as of epoll. Not after Remove, if that was called
    // on the loop's thread before the events of this turn were handed out; so a handler
    // is destroyed by a posted task, which runs between two turns.
    virtual void OnEvents(uint32_t events) = 0;
  };

  // `name`: at most 15 characters. `busy_poll`: how long it looks for the next event before
  // it sleeps, see BusyWait. Errors: kResourceExhausted (descriptors).
  static absl::StatusOr<std::unique_ptr<EventLoop>> Start(const std::string& name, Nanos busy_poll);
  // Runs what was posted, then ends the thread.
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Level-triggered. `handler` outlives its registration. Errors: kResourceExhausted.
  absl::Status Add(int fd, uint32_t events, Handler& handler);
  void Change(int fd, uint32_t events, Handler& handler);
  void Remove(int fd);

  // Runs `task` on the loop's thread, after the events of this turn, in the order of
  // posting.
  void Post(std::function<void()> task);

 private:
  EventLoop(Descriptor epoll, Descriptor wake, Nanos busy_poll)
      : epoll_(std::move(epoll)), wake_(std::move(wake)), busy_(clock_, busy_poll) {}
  void Run();
  // As epoll_wait.
  int Wait(std::span<epoll_event> events);
  // False: the loop ends.
  bool RunTasks();

  const Descriptor epoll_;
  const Descriptor wake_;  // an eventfd
  const SystemClock clock_;
  BusyWait busy_;  // of its thread
  Mutex mutex_;
  std::vector<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace mnemo
