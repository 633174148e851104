// What a CancelSource knows: the calls that were given it.
#pragma once

#include <atomic>
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

// Wakes who waits for `changed` under `mutex`, once `source` is cancelled; null: never.
// Made and destroyed without `mutex`; `cancelled` is for whoever has it.
class WakeOnCancel final : public Cancellable {
 public:
  WakeOnCancel(CancelSource* source, Mutex& mutex, CondVar& changed);
  ~WakeOnCancel();
  WakeOnCancel(const WakeOnCancel&) = delete;
  WakeOnCancel& operator=(const WakeOnCancel&) = delete;

  void Cancel() override;
  bool cancelled() const { return cancelled_; }

 private:
  CancelSource* const source_;
  Mutex& mutex_;
  CondVar& changed_;
  std::atomic<bool> cancelled_ = false;  // set under mutex_, so that nobody misses it
};

}  // namespace mnemo::client
