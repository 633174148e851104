// A unary call: gate, executor, work, answer.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string>
#include <utility>

#include "server/gate/gate.h"
#include "server/rpc/convert.h"

namespace mnemo {

// The deadline of a call as our monotonic time; max where the client gave none.
MonoTime DeadlineOf(const grpc::CallbackServerContext& context, const Clock& clock);
// Tells the client when to come again, where a call was shed.
void AddPushback(grpc::CallbackServerContext& context, const absl::Status& status);

// What a call that is done has ended with, to the client's knowledge: whoever was
// cancelled has not learnt our code. Only in OnDone, when gRPC is sure of it.
absl::StatusCode CodeAtEnd(const grpc::CallbackServerContext& context, absl::StatusCode code);

// Brings a call before the gate with what it shows of its caller; one that is
// refused for that is told to the observer. Errors: of Gate::Admit.
absl::Status AdmitCall(Gate& gate, const MethodRule& rule,
                       const grpc::CallbackServerContext& context, CallContext& call);

// Owns itself until OnDone. `Work` fills the response and may block.
class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  using Work = std::function<absl::Status(const CallContext&)>;

  // `context` and what `work` refers to live until the call is done.
  static grpc::ServerUnaryReactor* Start(Gate& gate, const MethodRule& rule,
                                         grpc::CallbackServerContext* context, Work work) {
    auto* call = new UnaryCall(gate, rule, context, std::move(work));
    call->Begin();
    return call;
  }

  void OnCancel() override { call_.cancelled = true; }
  void OnDone() override { delete this; }

 private:
  UnaryCall(Gate& gate, const MethodRule& rule, grpc::CallbackServerContext* context, Work work)
      : gate_(gate),
        rule_(rule),
        context_(context),
        work_(std::move(work)),
        started_(gate.clock().Mono()) {}
  void Begin();
  void End(const absl::Status& status);

  Gate& gate_;
  const MethodRule& rule_;
  grpc::CallbackServerContext* const context_;
  const Work work_;
  const MonoTime started_;
  CallContext call_;
};

}  // namespace mnemo
