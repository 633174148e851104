#include "server/transfer/event_loop.h"

#include <pthread.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

absl::Status NoDescriptor(const char* what) {
  return absl::ResourceExhaustedError(std::string(what) + ": " + std::strerror(errno));
}

}  // namespace

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Start(const std::string& name,
                                                            Nanos busy_poll) {
  Descriptor epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return NoDescriptor("epoll");
  Descriptor wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return NoDescriptor("eventfd");
  std::unique_ptr<EventLoop> loop(new EventLoop(std::move(epoll), std::move(wake), busy_poll));
  // No handler: what wakes the loop are its tasks.
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (::epoll_ctl(loop->epoll_.get(), EPOLL_CTL_ADD, loop->wake_.get(), &event) != 0) {
    return NoDescriptor("epoll");
  }
  loop->thread_ = std::thread([raw = loop.get()] { raw->Run(); });
  ::pthread_setname_np(loop->thread_.native_handle(), name.c_str());
  return loop;
}

EventLoop::~EventLoop() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  Post([] {});
  thread_.join();
}

absl::Status EventLoop::Add(int fd, uint32_t events, Handler& handler) {
  epoll_event event{.events = events, .data = {.ptr = &handler}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return absl::OkStatus();
  return NoDescriptor("epoll");
}

void EventLoop::Change(int fd, uint32_t events, Handler& handler) {
  epoll_event event{.events = events, .data = {.ptr = &handler}};
  MNEMO_CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) == 0);
}

void EventLoop::Remove(int fd) {
  MNEMO_CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr) == 0);
}

void EventLoop::Post(std::function<void()> task) {
  bool first = false;
  {
    MutexLock lock(mutex_);
    first = tasks_.empty();
    tasks_.push_back(std::move(task));
  }
  if (!first) return;
  const uint64_t one = 1;
  MNEMO_CHECK(::write(wake_.get(), &one, sizeof(one)) == sizeof(one));
}

bool EventLoop::RunTasks() {
  uint64_t count = 0;
  const bool woken = ::read(wake_.get(), &count, sizeof(count)) == sizeof(count);
  for (;;) {
    std::vector<std::function<void()>> tasks;
    {
      MutexLock lock(mutex_);
      tasks.swap(tasks_);
      if (tasks.empty()) return !(woken && stopping_);
    }
    for (const auto& task : tasks) task();
  }
}

int EventLoop::Wait(std::span<epoll_event> events) {
  int count = 0;
  const auto look = [&](int timeout_ms) {
    count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
    return count != 0;
  };
  if (busy_.For([&] { return look(0); })) return count;
  look(-1);
  busy_.Woke();
  return count;
}

void EventLoop::Run() {
  std::array<epoll_event, 64> events;
  for (;;) {
    const int count = Wait(events);
    if (count < 0) {
      MNEMO_CHECK(errno == EINTR);
      continue;
    }
    bool woken = false;
    for (int i = 0; i < count; ++i) {
      auto* const handler = static_cast<Handler*>(events[static_cast<size_t>(i)].data.ptr);
      if (handler == nullptr) {
        woken = true;
      } else {
        handler->OnEvents(events[static_cast<size_t>(i)].events);
      }
    }
    if (woken && !RunTasks()) return;
  }
}

}  // namespace mnemo
