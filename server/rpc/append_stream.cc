#include "server/rpc/append_stream.h"

#include <utility>

#include "server/rpc/convert.h"
#include "server/rpc/convert_context.h"
#include "server/rpc/wire.h"
#include "storage/base/status_macros.h"

namespace mnemo {
AppendStream::AppendStream(Gate& gate, ContextEngine& contexts,
                           grpc::CallbackServerContext* context)
    : ExchangeStream(gate, "mnemo.v1.ContextService/Append", context, Patience::kUnlimited),
      contexts_(contexts) {}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* AppendStream::Start(
    Gate& gate, ContextEngine& contexts, grpc::CallbackServerContext* context) {
  auto* stream = new AppendStream(gate, contexts, context);
  stream->Begin();
  return stream;
}

void AppendStream::Begin() {
  const absl::Status status = Admit();
  if (!status.ok()) return End(status);
  // Who has not even said what to append to is waited for like anybody else.
  reading_wait_.Begin(gate_.clock().Mono());
  Read();
}

void AppendStream::Received() {
  if (Claim(incoming_.Length(), &AppendStream::Handle)) Submit(&AppendStream::Handle);
}

void AppendStream::Handle() {
  if (absl::Status status = CheckGoesOn(call_, gate_.clock()); !status.ok()) return End(status);
  const absl::StatusOr<v1::AppendResponse> answer = Take();
  incoming_.Clear();
  claim_.Release();
  if (!answer.ok()) return Refuse(answer.status());
  Enqueue(*answer);
  ReadWhenAnswersFit();
}

absl::StatusOr<v1::AppendResponse> AppendStream::Take() {
  v1::AppendRequest request;
  if (!DecodeMessage(incoming_, request)) {
    return absl::InvalidArgumentError("the message is not an AppendRequest");
  }
  switch (request.message_case()) {
    case v1::AppendRequest::kStart:
      return Open(request.start());
    case v1::AppendRequest::kTokens:
      return Append(request.tokens());
    case v1::AppendRequest::MESSAGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("message is absent; it must be start or tokens");
}

absl::StatusOr<v1::AppendResponse> AppendStream::Open(const v1::AppendStart& start) {
  if (session_) {
    return absl::InvalidArgumentError("start came twice; it must be first, and only first");
  }
  MNEMO_ASSIGN_OR_RETURN(const AppendStart asked, FromProto(start));
  MNEMO_ASSIGN_OR_RETURN(session_, contexts_.Append(call_, asked));
  v1::AppendResponse response;
  response.mutable_ready()->set_context_id(session_->context_id());
  response.mutable_ready()->set_next_position(session_->next_position());
  return response;
}

absl::StatusOr<v1::AppendResponse> AppendStream::Append(const v1::TokenBatch& batch) {
  if (!session_) return absl::InvalidArgumentError("tokens came before start");
  MNEMO_ASSIGN_OR_RETURN(const TokenColumns tokens, FromProto(batch, session_->dimension()));
  MNEMO_ASSIGN_OR_RETURN(const AppendResult answer, session_->Append(tokens));
  v1::AppendResponse response;
  response.mutable_ack()->set_next_position(answer.next_position);
  response.mutable_ack()->set_repeated_batch(answer.repeated);
  return response;
}

void AppendStream::EndOfInput() {
  if (!session_) return End(absl::InvalidArgumentError("the stream ended before start"));
  End(absl::OkStatus());
}

void AppendStream::Refuse(const absl::Status& status) {
  v1::AppendResponse response;
  ToProto(status, response.mutable_refusal()->mutable_error());
  if (session_) response.mutable_refusal()->set_next_position(session_->next_position());
  Enqueue(response);
  End(status);
}

}  // namespace mnemo
