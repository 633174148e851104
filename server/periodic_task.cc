#include "server/periodic_task.h"

#include <utility>

namespace mnemo {

PeriodicTask::PeriodicTask(Nanos interval, std::function<void()> task)
    : interval_(interval), task_(std::move(task)), thread_([this] { Run(); }) {}

PeriodicTask::~PeriodicTask() { Stop(); }

void PeriodicTask::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.SignalAll();
  if (thread_.joinable()) thread_.join();
}

void PeriodicTask::Run() {
  while (true) {
    {
      MutexLock lock(mutex_);
      // An early wake-up only runs the task early.
      if (!stopping_) (void)changed_.WaitFor(mutex_, interval_);
      if (stopping_) return;
    }
    task_();
  }
}

}  // namespace mnemo
