// What a CancelSource knows: the calls that were given it.
#pragma once

#include <unordered_set>

#include "mnemo/options.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

// Something that can be cancelled from any thread, once or more often.
class Cancellable {
 public:
  virtual void Cancel() = 0;

 protected:
  ~Cancellable() = default;
};

// Thread-safe. Lock order: this mutex before that of a call.
class CancelSource::Impl {
 public:
  // Answers whether it is cancelled already; then Cancel is not called.
  bool Add(Cancellable& call);
  // After it returns, Cancel is not called any more and does not run.
  void Remove(Cancellable& call);
  void Cancel();
  bool cancelled() const;

 private:
  mutable Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::unordered_set<Cancellable*> calls_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo::client
