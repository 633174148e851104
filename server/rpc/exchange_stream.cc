#include "server/rpc/exchange_stream.h"

#include <utility>

#include "server/rpc/wire.h"

namespace mnemo {
namespace {

constexpr size_t kMaxAnswers = 64;  // that wait for the client

absl::Status ShuttingDown() { return absl::UnavailableError("the daemon is shutting down"); }

}  // namespace

void ExchangeStream::Read() {
  {
    MutexLock lock(mutex_);
    if (!shutting_down_) {
      reading_ = true;
      // Last, so that whoever sees the wait finds a turn to take.
      if (patience_ == Patience::kLimited) reading_wait_.Begin(gate_.clock().Mono());
      StartRead(&incoming_);
      return;
    }
  }
  End(ShuttingDown());
}

void ExchangeStream::ReadWhenAnswersFit() {
  {
    MutexLock lock(mutex_);
    paused_ = outgoing_.size() >= kMaxAnswers;
    if (paused_) return;
  }
  Read();
}

void ExchangeStream::OnReadDone(bool ok) {
  {
    MutexLock lock(mutex_);
    // The watchdog may have taken the turn: then the call ends already.
    if (!std::exchange(reading_, false)) return;
  }
  reading_wait_.End(/*progress=*/!ok || IsProgress());
  if (!ok) return Submit(&ExchangeStream::HandleEndOfInput);
  Received();
}

bool ExchangeStream::WasStalled() {
  MutexLock lock(mutex_);
  return stalled_;
}

void ExchangeStream::HandleEndOfInput() {
  if (WasStalled()) return EndStalled();
  if (call_.cancelled) return End(WhyCancelled());
  EndOfInput();
}

void ExchangeStream::Enqueue(const google::protobuf::MessageLite& response) {
  grpc::ByteBuffer message = EncodeMessage(response);
  MutexLock lock(mutex_);
  outgoing_.push_back(std::move(message));
  if (!std::exchange(writing_, true)) WriteLocked();
}

void ExchangeStream::WriteLocked() {
  writing_wait_.Begin(gate_.clock().Mono());
  StartWrite(&outgoing_.front());
}

void ExchangeStream::OnWriteDone(bool ok) {
  writing_wait_.End(/*progress=*/true);
  bool resume = false;
  absl::Status status;
  {
    MutexLock lock(mutex_);
    outgoing_.pop_front();
    if (!ok) outgoing_.clear();
    resume = paused_ && outgoing_.size() < kMaxAnswers;
    if (resume) paused_ = false;
    writing_ = !outgoing_.empty();
    if (writing_) WriteLocked();
    if (!resume) {
      if (writing_ || !ended_) return;
      status = final_;
    }
  }
  if (resume) return Read();
  FinishNow(status);
}

bool ExchangeStream::OnStalled() {
  MutexLock lock(mutex_);
  if (std::exchange(stalled_, true)) return false;
  gate_.observer().OnShed(rule_.call_class, "stalled");
  if (!writing_ && std::exchange(reading_, false)) return true;
  // The reason would wait behind answers that are not read.
  context_->TryCancel();
  return false;
}

void ExchangeStream::EndStalled() {
  End(absl::DeadlineExceededError("the client sent nothing, or hardly anything, for too long"));
}

void ExchangeStream::EndInsteadOfReading() {
  {
    MutexLock lock(mutex_);
    shutting_down_ = true;
    // Whoever else has the turn sees it before the next read.
    if (!std::exchange(reading_, false)) return;
  }
  Submit(&ExchangeStream::EndForShutdown);
}

void ExchangeStream::EndForShutdown() { End(ShuttingDown()); }

void ExchangeStream::End(const absl::Status& status) {
  DropSession();
  claim_.Release();
  AddPushback(*context_, status);
  {
    MutexLock lock(mutex_);
    ended_ = true;
    final_ = status;
    if (writing_) return;
  }
  FinishNow(status);
}

}  // namespace mnemo
