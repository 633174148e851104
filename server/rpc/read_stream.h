// A stream of messages out to the client, step by step of a session.
#pragma once

#include <memory>
#include <string>

#include "server/rpc/stream_call.h"
#include "server/rpc/wire.h"

namespace mnemo {

// `Request` is the client's message; `Session` tells by NextBytes() what its next
// step takes into RAM, which is claimed until the one after. Whoever has the turn
// goes on, so nothing here needs a lock.
template <typename Request, typename Session>
class ReadStream : public StreamCall<grpc::ServerWriteReactor<grpc::ByteBuffer>> {
 public:
  void OnWriteDone(bool ok) final {
    writing_wait_.End(/*progress=*/true);
    message_.Clear();
    if (!ok || call_.cancelled || cut_) return End(WhyCancelled());
    if (SendRest()) return;
    Submit(&ReadStream::Advance);
  }

  bool OnStalled() final { return Cut(); }

 protected:
  using StreamCall::StreamCall;

  void Open(const grpc::ByteBuffer& request) {
    if (absl::Status status = Admit(); !status.ok()) return End(status);
    if (!DecodeMessage(request, request_)) {
      return End(absl::InvalidArgumentError("the message is not a " +
                                            std::string(Request::descriptor()->name())));
    }
    Submit(&ReadStream::Advance);
  }

  virtual absl::StatusOr<std::unique_ptr<Session>> OpenSession() = 0;
  // Takes the session's next step and writes its first message, or ends the call.
  virtual void Step() = 0;
  // Writes the next message of a step that was not sent whole, if there is one.
  virtual bool SendRest() { return false; }
  // Gives back what the step that is under way holds.
  virtual void DropStep() {}

  absl::Status WhyCancelled() const final {
    return cut_ ? absl::DeadlineExceededError("the client read nothing for too long")
                : absl::CancelledError("the client has gone");
  }

  void Write(grpc::ByteBuffer message) {
    message_.Swap(&message);
    writing_wait_.Begin(gate_.clock().Mono());
    StartWrite(&message_);
  }

  void End(const absl::Status& status) final {
    DropStep();
    session_.reset();
    claim_.Release();
    AddPushback(*context_, status);
    FinishNow(status);
  }

  const Request& request() const { return request_; }
  Session& session() { return *session_; }

 private:
  // Claims what the next step takes, without a thread while the budget is used up.
  void Advance() {
    // A stall may be found just when the message that waited has gone.
    if (cut_) return End(WhyCancelled());
    if (absl::Status status = CheckGoesOn(call_, gate_.clock()); !status.ok()) return End(status);
    if (!session_) {
      absl::StatusOr<std::unique_ptr<Session>> session = OpenSession();
      if (!session.ok()) return End(session.status());
      session_ = *std::move(session);
    }
    if (const uint64_t bytes = session_->NextBytes(); bytes != 0) {
      claim_.Release();
      if (!Claim(bytes, &ReadStream::Step)) return;
    }
    Step();
  }

  Request request_;
  std::unique_ptr<Session> session_;
  grpc::ByteBuffer message_;  // in flight
};

}  // namespace mnemo
