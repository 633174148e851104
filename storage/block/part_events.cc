#include "storage/block/part_events.h"

namespace mnemo {

void PartEvents::Add(PartEvent event) {
  if (!observer_) return;
  MutexLock lock(mutex_);
  waiting_.push_back(std::move(event));
}

void PartEvents::Deliver() {
  if (!observer_) return;
  {
    MutexLock lock(mutex_);
    if (delivering_) return;
    delivering_ = true;
  }
  while (true) {
    std::deque<PartEvent> batch;
    {
      MutexLock lock(mutex_);
      batch.swap(waiting_);
      if (batch.empty()) {
        delivering_ = false;
        return;
      }
    }
    for (const PartEvent& event : batch) observer_(event);
  }
}

}  // namespace mnemo
