#include "client/cpp/watch.h"

#include <chrono>
#include <utility>

#include "client/cpp/call.h"
#include "client/cpp/convert.h"

namespace mnemo::client {
namespace {

// Messages of up to 1,024 events that may wait for the reader.
constexpr size_t kReadAhead = 4;

}  // namespace

Watch::Impl::Impl(Core& core, const SpaceRef& space, uint64_t from_sequence) : core_(core) {
  *request_.mutable_space() = ToMessage(space);
  request_.set_from_sequence(from_sequence);
  context_.emplace();
  core_.ShowToken(*context_);
  core_.Begin(*this);
  core_.NextConnection().blocks->async()->Watch(&*context_, &request_, this);
  // Reads start outside of reactions too, so gRPC must not finish between.
  AddHold();
  StartRead(&message_);
  StartCall();
}

Watch::Impl::~Impl() {
  Cancel();
  {
    MutexLock lock(mutex_);
    while (!ended_) changed_.Wait(mutex_);
  }
  core_.Forget(*this);
  context_.reset();
  core_.End();
}

void Watch::Impl::Cancel() { context_->TryCancel(); }

absl::StatusOr<std::vector<BlockEvent>> Watch::Impl::Next(Millis timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::vector<BlockEvent> events;
  bool read = false;
  {
    MutexLock lock(mutex_);
    while (ready_.empty() && !ended_) {
      const auto left = deadline - std::chrono::steady_clock::now();
      if (left <= std::chrono::nanoseconds(0)) {
        return absl::DeadlineExceededError("no event came in time");
      }
      changed_.WaitFor(mutex_, left);
    }
    if (ready_.empty()) return status_;
    events = std::move(ready_.front());
    ready_.pop_front();
    read = !std::exchange(reading_, true);
  }
  if (read) StartRead(&message_);
  return events;
}

void Watch::Impl::OnReadDone(bool ok) {
  bool read = false;
  if (ok) {
    std::vector<BlockEvent> events = FromMessages<BlockEvent>(message_.events());
    MutexLock lock(mutex_);
    ready_.push_back(std::move(events));
    read = reading_ = ready_.size() < kReadAhead;
    changed_.SignalAll();
  } else {
    RemoveHold();
  }
  if (read) StartRead(&message_);
}

void Watch::Impl::OnDone(const grpc::Status& status) {
  MutexLock lock(mutex_);
  status_ = status.ok() ? absl::UnavailableError("the daemon ended the watch") : FromGrpc(status);
  ended_ = true;
  changed_.SignalAll();
}

Watch::Watch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Watch::~Watch() = default;
absl::StatusOr<std::vector<BlockEvent>> Watch::Next(Millis timeout) { return impl_->Next(timeout); }
void Watch::Cancel() { impl_->Cancel(); }

}  // namespace mnemo::client
