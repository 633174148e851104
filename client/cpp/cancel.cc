#include "client/cpp/cancel.h"

namespace mnemo::client {

bool CancelSource::Impl::Add(Cancellable& call) {
  MutexLock lock(mutex_);
  calls_.insert(&call);
  return cancelled_;
}

void CancelSource::Impl::Remove(Cancellable& call) {
  MutexLock lock(mutex_);
  calls_.erase(&call);
}

void CancelSource::Impl::Cancel() {
  MutexLock lock(mutex_);
  cancelled_ = true;
  // Under the lock, so that no call ends while it is being cancelled.
  for (Cancellable* call : calls_) call->Cancel();
}

bool CancelSource::Impl::cancelled() const {
  MutexLock lock(mutex_);
  return cancelled_;
}

WakeOnCancel::WakeOnCancel(CancelSource* source, Mutex& mutex, CondVar& changed)
    : source_(source), mutex_(mutex), changed_(changed) {
  if (source_ != nullptr && source_->impl().Add(*this)) Cancel();
}

WakeOnCancel::~WakeOnCancel() {
  if (source_ != nullptr) source_->impl().Remove(*this);
}

void WakeOnCancel::Cancel() {
  MutexLock lock(mutex_);
  cancelled_ = true;
  changed_.SignalAll();
}

CancelSource::CancelSource() : impl_(std::make_unique<Impl>()) {}
CancelSource::~CancelSource() = default;
void CancelSource::Cancel() { impl_->Cancel(); }
bool CancelSource::cancelled() const { return impl_->cancelled(); }

}  // namespace mnemo::client
