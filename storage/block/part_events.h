// Hands events of parts to the observer, in the order of the changes.
#pragma once

#include <deque>
#include <functional>

#include "storage/base/mutex.h"
#include "storage/block/block_store.h"

namespace mnemo {

// Thread-safe. Whoever changes a part calls Add while it holds the part's gate
// (entry_gate.h), and Deliver once it holds nothing. One thread delivers at a
// time; the others leave theirs to it.
class PartEvents {
 public:
  explicit PartEvents(std::function<void(const PartEvent&)> observer)
      : observer_(std::move(observer)) {}

  void Add(PartEvent event);
  void Deliver();

 private:
  const std::function<void(const PartEvent&)> observer_;
  Mutex mutex_;  // innermost
  std::deque<PartEvent> waiting_ ABSL_GUARDED_BY(mutex_);
  bool delivering_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mnemo
