#include "client/cpp/get_call.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <utility>

#include "client/cpp/convert.h"

namespace mnemo::client {
namespace {

constexpr char kMethod[] = "/mnemo.v1.BlockService/Get";
// A message of 1 MiB arrives in one slice or a few.
constexpr size_t kUsualSlices = 16;

}  // namespace

// One attempt. gRPC calls one method at a time: reads follow each other, and
// OnDone comes last.
class GetCall::Stream final : public grpc::ClientBidiReactor<v1::GetRequest, grpc::ByteBuffer> {
 public:
  Stream(GetCall& call, grpc::ClientContext& context, Connection& connection) : call_(call) {
    // On the wire, a method with one request is a bidirectional one that is
    // closed after the first message; only those have a raw form.
    context.set_initial_metadata_corked(true);
    grpc::TemplatedGenericStub<v1::GetRequest, grpc::ByteBuffer>(connection.channel)
        .PrepareBidiStreamingCall(&context, kMethod, {}, this);
  }

  void Start() {
    StartWriteLast(&call_.request_, {});
    StartRead(&message_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    error_ = call_.OnMessage(message_);
    if (!error_.ok()) {
      call_.TryCancelAttempt();
      return;
    }
    StartRead(&message_);
  }

  void OnDone(const grpc::Status& status) override {
    call_.AttemptDone(error_.ok() ? FromGrpc(status) : error_);
  }

 private:
  GetCall& call_;
  grpc::ByteBuffer message_;
  absl::Status error_;
};

GetCall::GetCall(Core& core, const CallSettings& settings, const GetRequest& request,
                 Done<GetResult> done)
    : Call(core, settings),
      core_(core),
      settings_(settings),
      space_(request.space),
      request_(ToMessage(request)),
      reading_(std::make_shared<Reading>(core, request)),
      done_(std::move(done)) {}

GetCall::Reading::Reading(Core& core, const GetRequest& request)
    : decoder(request.decode_at_client
                  ? std::make_optional<PartDecoder>(core.calibrations(), request)
                  : std::nullopt),
      assembly(request, decoder ? &*decoder : nullptr) {}

GetCall::~GetCall() = default;

void GetCall::StartAttempt(grpc::ClientContext& context, Connection& connection) {
  reading_->assembly.Reset();
  stream_ = std::make_unique<Stream>(*this, context, connection);
  stream_->Start();
}

void GetCall::Finish(const absl::Status& status) {
  const std::set<uint32_t> missing = reading_->assembly.MissingCalibrations();
  if (missing.empty()) return done_(reading_->assembly.Finish(status));
  // The first read of a space: later ones decode each part as it comes.
  FetchCalibrations(
      core_, settings_, space_, missing,
      [reading = reading_, done = done_, status](const CalibrationFailures& failures) {
        reading->assembly.DecodeRest(failures);
        done(reading->assembly.Finish(status));
      });
}

absl::Status GetCall::OnMessage(grpc::ByteBuffer& message) {
  // Walks the slices in place. The reader keeps them alive.
  grpc::ProtoBufferReader reader(&message);
  std::vector<Bytes> slices;
  slices.reserve(kUsualSlices);
  const void* data = nullptr;
  int size = 0;
  while (reader.Next(&data, &size)) {
    slices.emplace_back(static_cast<const uint8_t*>(data), static_cast<size_t>(size));
  }

  GetDataView piece{.data = SliceCursor(std::span<const Bytes>{})};
  if (ParseGetResponse(slices, piece) == ParsedGetResponse::kData) {
    return reading_->assembly.OnData(piece);
  }
  v1::GetResponse parsed;
  if (!grpc::GenericDeserialize<grpc::ProtoBufferReader, v1::GetResponse>(&message, &parsed).ok()) {
    return absl::InternalError("the daemon's answer is no GetResponse");
  }
  if (parsed.has_header()) return reading_->assembly.OnHeader(parsed.header());
  if (!parsed.has_data()) return absl::InternalError("the daemon's answer has no message");
  const std::string& payload = parsed.data().data();
  const Bytes whole(reinterpret_cast<const uint8_t*>(payload.data()), payload.size());
  return reading_->assembly.OnData({.index = parsed.data().index(),
                                    .offset = parsed.data().offset(),
                                    .data = SliceCursor(std::span(&whole, 1))});
}

}  // namespace mnemo::client
