#include "server/periodic_task.h"

#include <utility>

namespace mnemo {

PeriodicTask::PeriodicTask(Nanos first_wait, std::function<Nanos()> task)
    : task_(std::move(task)), wait_(first_wait), thread_([this] { Run(); }) {}

PeriodicTask::PeriodicTask(Nanos interval, std::function<void()> task)
    : PeriodicTask(interval, std::function<Nanos()>([interval, task = std::move(task)] {
                     task();
                     return interval;
                   })) {}

PeriodicTask::PeriodicTask(std::function<Nanos()> task) : PeriodicTask(Nanos(0), std::move(task)) {}

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
      if (!stopping_ && wait_ > Nanos(0)) (void)changed_.WaitFor(mutex_, wait_);
      if (stopping_) return;
    }
    wait_ = task_();
  }
}

}  // namespace mnemo
