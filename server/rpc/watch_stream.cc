#include "server/rpc/watch_stream.h"

#include <utility>

namespace mnemo {
namespace {

constexpr size_t kEventsPerMessage = 1024;

}  // namespace

WatchStream::WatchStream(Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context,
                         const v1::WatchRequest& request)
    : StreamCall(gate, "mnemo.v1.BlockService/Watch", context),
      blocks_(blocks),
      request_(request),
      shared_(std::make_shared<Shared>()) {}

grpc::ServerWriteReactor<v1::WatchResponse>* WatchStream::Start(
    Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context,
    const v1::WatchRequest* request) {
  auto* stream = new WatchStream(gate, blocks, context, *request);
  stream->Begin();
  return stream;
}

void WatchStream::Begin() {
  const absl::Status status = Admit();
  if (!status.ok()) return End(status);
  {
    MutexLock lock(shared_->mutex);
    shared_->stream = this;
  }
  Submit(&WatchStream::Advance);
}

void WatchStream::Wake() {
  {
    MutexLock lock(mutex_);
    if (state_ != State::kWaiting) {
      woken_ = true;
      return;
    }
    state_ = State::kBusy;
  }
  Submit(&WatchStream::Advance);
}

void WatchStream::OnCancel() {
  call_.cancelled = true;
  Wake();
}

absl::Status WatchStream::CheckGoesOn() const {
  if (cut_) {
    return absl::ResourceExhaustedError("the reader is too slow: it read nothing for too long");
  }
  if (call_.cancelled) return absl::CancelledError("the client has ended the watch");
  if (shutting_down_) return absl::UnavailableError("the daemon is shutting down");
  return absl::OkStatus();
}

void WatchStream::Advance() {
  if (!subscription_) {
    auto subscription = blocks_.Watch(call_, FromProto(request_.space()), request_.from_sequence(),
                                      [shared = shared_] {
                                        MutexLock lock(shared->mutex);
                                        if (shared->stream != nullptr) shared->stream->Wake();
                                      });
    if (!subscription.ok()) return End(subscription.status());
    subscription_ = *std::move(subscription);
  }
  for (;;) {
    if (absl::Status status = CheckGoesOn(); !status.ok()) return End(status);
    absl::StatusOr<std::vector<BlockEvent>> events = subscription_->Take(kEventsPerMessage);
    if (!events.ok()) return End(events.status());
    if (!events->empty()) {
      response_.Clear();
      for (const BlockEvent& event : *events) ToProto(event, response_.add_events());
      writing_wait_.Begin(gate_.clock().Mono());
      StartWrite(&response_);
      return;
    }
    MutexLock lock(mutex_);
    if (!std::exchange(woken_, false)) {
      state_ = State::kWaiting;
      return;
    }
    // Woken since Take looked: look again.
  }
}

void WatchStream::OnWriteDone(bool ok) {
  writing_wait_.End(/*progress=*/true);
  if (!ok) call_.cancelled = true;
  Submit(&WatchStream::Advance);
}

void WatchStream::OnShutdown() {
  shutting_down_ = true;
  Wake();
}

void WatchStream::End(const absl::Status& status) {
  {
    MutexLock lock(mutex_);
    state_ = State::kEnded;
  }
  AddPushback(*context_, status);
  FinishNow(status);
}

void WatchStream::OnDone() {
  {
    MutexLock lock(shared_->mutex);
    shared_->stream = nullptr;
  }
  StreamCall::OnDone();
}

}  // namespace mnemo
