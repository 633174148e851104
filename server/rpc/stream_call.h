// What every stream has: its way through the gate, and how its end is counted.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <string_view>

#include "server/gate/stream_watchdog.h"
#include "server/rpc/unary.h"

namespace mnemo {

// `Reactor` is one of gRPC's. Owns itself until OnDone. A stream has one turn,
// which passes between its tasks on the executor, its reactions and its claim on
// the byte budget: whoever has it goes on.
template <typename Reactor>
class StreamCall : public Reactor, public WatchedStream {
 public:
  void OnDone() override {
    gate_.watchdog().Remove(*this);
    // Counted here, when it is certain whether the client was still there.
    gate_.observer().OnFinished(rule_, CodeAtEnd(*context_, code_), took_);
    delete this;
  }

 protected:
  // `method` as in the gate's rules: "mnemo.v1.BlockService/Get".
  StreamCall(Gate& gate, std::string_view method, grpc::CallbackServerContext* context)
      : gate_(gate),
        context_(context),
        rule_(RuleOf(method)),
        claim_(gate.bytes()),
        started_(gate.clock().Mono()) {}

  // First of all, when the object is whole.
  absl::Status Admit() {
    gate_.watchdog().Add(*this);
    return AdmitCall(gate_, rule_, *context_, call_);
  }

  // Passes the turn to `work` on the executor, or ends the call if its queue is full
  // or if its caller's credential has ended meanwhile.
  template <typename Self>
  void Submit(void (Self::*work)()) {
    absl::Status status = gate_.Recheck(call_);
    if (status.ok()) {
      status = gate_.Submit(call_, [self = static_cast<Self*>(this), work] { (self->*work)(); });
    }
    if (!status.ok()) End(status);
  }

  // Claims `bytes`. True: they are granted, and the caller goes on. Otherwise the
  // turn is passed on: to `work` when there is room, or to the end of the call.
  template <typename Self>
  bool Claim(uint64_t bytes, void (Self::*work)()) {
    switch (
        claim_.Acquire(bytes, [self = static_cast<Self*>(this), work] { self->Submit(work); })) {
      case ByteBudget::Claim::Outcome::kGranted:
        return true;
      case ByteBudget::Claim::Outcome::kQueued:
        return false;
      case ByteBudget::Claim::Outcome::kWithdrawn:
        break;
    }
    End(WhyCancelled());
    return false;
  }

  // What a call that is cancelled ends with; the client may learn of it or not.
  virtual absl::Status WhyCancelled() const {
    return absl::CancelledError("the call was cancelled");
  }

  // Takes the turn and ends the call, now or when what was said has been sent.
  virtual void End(const absl::Status& status) = 0;

  // The last thing that is done with this object.
  void FinishNow(const absl::Status& status) {
    code_ = status.code();
    took_ = gate_.clock().Mono() - started_;
    this->Finish(ToGrpc(status));
  }

  void OnCancel() override {
    call_.cancelled = true;
    if (claim_.Withdraw()) End(WhyCancelled());
  }

  // OnStalled of a stream whose client does not read: its trailers would wait behind
  // the message that is not read.
  bool Cut() {
    if (!cut_.exchange(true)) {
      gate_.observer().OnShed(rule_.call_class, "stalled");
      context_->TryCancel();
    }
    return false;
  }

  Gate& gate_;
  grpc::CallbackServerContext* const context_;
  const MethodRule& rule_;
  CallContext call_;
  ByteBudget::Claim claim_;
  std::atomic<bool> cut_{false};

 private:
  const MonoTime started_;
  absl::StatusCode code_ = absl::StatusCode::kUnknown;
  Nanos took_{0};
};

}  // namespace mnemo
