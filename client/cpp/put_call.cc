#include "client/cpp/put_call.h"

#include <grpcpp/alarm.h>
#include <grpcpp/generic/generic_stub.h>

#include <atomic>
#include <chrono>
#include <utility>

#include "client/cpp/convert.h"
#include "client/cpp/wire.h"

namespace mnemo::client {
namespace {

constexpr char kMethod[] = "/mnemo.v1.BlockService/Put";

std::vector<Bytes> PayloadOf(const PutRequest& request) {
  std::vector<Bytes> payload;
  payload.reserve(request.parts.size());
  for (const PartPut& part : request.parts) payload.push_back(part.data);
  return payload;
}

std::vector<uint64_t> SizesOf(const PutRequest& request) {
  std::vector<uint64_t> sizes;
  sizes.reserve(request.parts.size());
  for (const PartPut& part : request.parts) sizes.push_back(part.data.size());
  return sizes;
}

grpc::ByteBuffer StartMessage(const v1::PutRequest& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return {&slice, 1};
}

}  // namespace

// One attempt. Reads and writes run side by side, so the plan is locked. The
// stream ends its attempt when the call is over and no borrowed slice is out.
class PutCall::Stream final : public grpc::ClientBidiReactor<grpc::ByteBuffer, v1::PutResponse> {
 public:
  Stream(PutCall& call, grpc::ClientContext& context, Connection& connection) : call_(call) {
    context.set_initial_metadata_corked(true);
    grpc::TemplatedGenericStub<grpc::ByteBuffer, v1::PutResponse>(connection.channel)
        .PrepareBidiStreamingCall(&context, kMethod, {}, this);
  }

  void Start() {
    {
      MutexLock lock(mutex_);
      writing_ = true;
      out_ = StartMessage(call_.start_);
      StartWrite(&out_, grpc::WriteOptions().set_buffer_hint());
    }
    StartRead(&in_);
    StartCall();
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(mutex_);
    writing_ = false;
    out_.Clear();
    // If not, the call is over and its status says why.
    if (ok) WriteNext();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    {
      MutexLock lock(mutex_);
      error_ = in_.has_grant() ? call_.plan_.OnGrant(in_.grant())
               : in_.has_result()
                   ? call_.plan_.OnResult(in_.result())
                   : absl::InternalError("the daemon's answer has no message");
      if (error_.ok()) WriteNext();
    }
    if (error_.ok()) {
      StartRead(&in_);
    } else {
      call_.TryCancelAttempt();
    }
  }

  void OnDone(const grpc::Status& status) override {
    status_ = error_.ok() ? FromGrpc(status) : error_;
    out_.Clear();
    if (holds_.fetch_sub(1, std::memory_order_acq_rel) == 1) call_.AttemptDone(status_);
  }

 private:
  // Sends the next piece, if there is one and nothing is being sent.
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || closed_) return;
    const std::optional<PutPiece> piece = call_.plan_.Next();
    if (piece) {
      writing_ = true;
      closed_ = call_.plan_.done();
      out_ = PieceMessage(*piece);
      StartWrite(&out_, closed_ ? grpc::WriteOptions().set_last_message() : grpc::WriteOptions());
    } else if (call_.plan_.done()) {
      closed_ = true;
      StartWritesDone();
    }
  }

  grpc::ByteBuffer PieceMessage(const PutPiece& piece) {
    const Bytes data = call_.payload_[piece.index].subspan(piece.offset, piece.size);
    const grpc::Slice prefix(PutDataPrefix(piece.index, piece.offset, piece.size));
    if (!call_.borrow_) {
      const grpc::Slice slices[] = {prefix, grpc::Slice(data.data(), data.size())};
      return {slices, 2};
    }
    holds_.fetch_add(1, std::memory_order_relaxed);
    // gRPC only reads what it sends, but takes no pointer to const.
    const grpc::Slice slices[] = {
        prefix, grpc::Slice(const_cast<uint8_t*>(data.data()), data.size(),
                            [](void* stream) { static_cast<Stream*>(stream)->OnSliceFree(); },
                            this)};
    return {slices, 2};
  }

  // gRPC's call is one holder, each borrowed slice another. The last one to
  // let go ends the attempt.
  void OnSliceFree() {
    if (holds_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    // We are somewhere within gRPC's transport: the end, which runs the
    // caller's code and destroys this, has to happen elsewhere.
    elsewhere_.Set(std::chrono::system_clock::now(), [this](bool) { call_.AttemptDone(status_); });
  }

  PutCall& call_;
  v1::PutResponse in_;
  absl::Status error_;   // written by reads, which OnDone follows
  absl::Status status_;  // written by OnDone before it releases
  std::atomic<int> holds_{1};
  grpc::Alarm elsewhere_;

  Mutex mutex_;
  grpc::ByteBuffer out_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

PutCall::PutCall(Core& core, const CallSettings& settings, const PutRequest& request,
                 Done<PutResult> done)
    : Call(core, settings),
      start_(ToStartMessage(request)),
      payload_(PayloadOf(request)),
      borrow_(request.borrow_payload),
      done_(std::move(done)),
      plan_(SizesOf(request)) {}

PutCall::~PutCall() = default;

void PutCall::StartAttempt(grpc::ClientContext& context, Connection& connection) {
  plan_.Reset();
  stream_ = std::make_unique<Stream>(*this, context, connection);
  stream_->Start();
}

void PutCall::Finish(const absl::Status& status) { done_(plan_.Finish(status)); }

}  // namespace mnemo::client
