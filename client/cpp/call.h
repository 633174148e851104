// The life of a call: deadline, cancellation, attempts, end. What an attempt
// does is the derived class's.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/client_context.h>

#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "client/cpp/cancel.h"
#include "client/cpp/core.h"
#include "mnemo/options.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

absl::Status FromGrpc(const grpc::Status& status);

// Whether a call may be sent twice although the first may have been done.
enum class Repeat { kSafe, kUnsafe };

struct CallSettings {
  std::chrono::system_clock::time_point deadline;
  CancelSource* cancel = nullptr;
  Repeat repeat = Repeat::kSafe;
};

// The settings for a call that carries no payload, or some.
CallSettings ControlCall(const Core& core, const CallOptions& options,
                         Repeat repeat = Repeat::kSafe);
CallSettings TransferCall(const Core& core, const CallOptions& options);

// Owns itself from Start until it has called Finish. Cancel is thread-safe.
class Call : public Cancellable {
 public:
  Call(Core& core, const CallSettings& settings);
  virtual ~Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  static void Start(std::unique_ptr<Call> call);
  void Cancel() final;

 protected:
  // Sends the request once more. Must lead to one AttemptDone, on any thread.
  virtual void StartAttempt(grpc::ClientContext& context, Connection& connection) = 0;
  // Delivers the result. Called once, as the last thing before the end.
  virtual void Finish(const absl::Status& status) = 0;

  // The last thing that an attempt does: the call may be gone afterwards.
  void AttemptDone(const absl::Status& status);
  void TryCancelAttempt();

 private:
  void Attempt();
  void End(const absl::Status& status);
  // Answers whether another attempt is on its way.
  bool Retry(const absl::Status& status);

  Core& core_;
  const CallSettings settings_;
  int attempts_ = 0;

  Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<grpc::ClientContext> context_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Alarm> pause_ ABSL_GUARDED_BY(mutex_);
};

// Pointer to the method of a generated asynchronous stub.
template <typename Service, typename Request, typename Response>
using UnaryMethod = void (Service::StubInterface::async_interface::*)(
    grpc::ClientContext*, const Request*, Response*, std::function<void(grpc::Status)>);

inline v1::SpaceService::Stub& StubOf(Connection& connection, const v1::SpaceService*) {
  return *connection.spaces;
}
inline v1::BlockService::Stub& StubOf(Connection& connection, const v1::BlockService*) {
  return *connection.blocks;
}
inline v1::ContextService::Stub& StubOf(Connection& connection, const v1::ContextService*) {
  return *connection.contexts;
}
inline v1::AdminService::Stub& StubOf(Connection& connection, const v1::AdminService*) {
  return *connection.admin;
}
inline v1::StreamService::Stub& StubOf(Connection& connection, const v1::StreamService*) {
  return *connection.streams;
}
inline v1::AuthService::Stub& StubOf(Connection& connection, const v1::AuthService*) {
  return *connection.auth;
}

template <typename Service, typename Request, typename Response>
class UnaryCall final : public Call {
 public:
  using Delivery = std::function<void(const absl::Status&, Response&)>;

  UnaryCall(Core& core, const CallSettings& settings,
            UnaryMethod<Service, Request, Response> method, Request request, Delivery deliver)
      : Call(core, settings),
        method_(method),
        request_(std::move(request)),
        deliver_(std::move(deliver)) {}

 private:
  void StartAttempt(grpc::ClientContext& context, Connection& connection) override {
    response_.Clear();
    auto& stub = StubOf(connection, static_cast<const Service*>(nullptr));
    (stub.async()->*method_)(&context, &request_, &response_,
                             [this](grpc::Status status) { AttemptDone(FromGrpc(status)); });
  }
  void Finish(const absl::Status& status) override { deliver_(status, response_); }

  const UnaryMethod<Service, Request, Response> method_;
  const Request request_;
  Response response_;
  const Delivery deliver_;
};

}  // namespace mnemo::client
