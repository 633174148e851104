#include "client/cpp/blocking_stream.h"

#include <algorithm>

namespace mnemo::client {

BlockingStream::BlockingStream(Core& core, std::chrono::system_clock::time_point deadline,
                               CancelSource* cancel)
    : core_(core), deadline_(deadline), source_(cancel) {
  core_.Begin(*this);
  if (source_ != nullptr && source_->impl().Add(*this)) Cancel();
}

BlockingStream::~BlockingStream() {
  if (source_ != nullptr) source_->impl().Remove(*this);
  core_.Forget(*this);
  {
    MutexLock lock(mutex_);
    context_.reset();
  }
  core_.End();
}

grpc::ClientContext& BlockingStream::NewContext() {
  MutexLock lock(mutex_);
  context_ = std::make_unique<grpc::ClientContext>();
  context_->set_deadline(deadline_);
  core_.ShowToken(*context_);
  if (cancelled_) context_->TryCancel();
  return *context_;
}

void BlockingStream::Cancel() {
  MutexLock lock(mutex_);
  cancelled_ = true;
  if (context_ != nullptr) context_->TryCancel();
  changed_.SignalAll();
}

bool BlockingStream::cancelled() const {
  MutexLock lock(mutex_);
  return cancelled_;
}

void BlockingStream::Pause(Millis time) {
  const auto end = std::min(std::chrono::system_clock::now() + time, deadline_);
  MutexLock lock(mutex_);
  while (!cancelled_) {
    const auto left = end - std::chrono::system_clock::now();
    if (left <= std::chrono::nanoseconds(0)) return;
    changed_.WaitFor(mutex_, left);
  }
}

}  // namespace mnemo::client
