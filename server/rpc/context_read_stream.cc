#include "server/rpc/context_read_stream.h"

#include <utility>

#include "server/rpc/convert_context.h"
#include "server/rpc/wire.h"
#include "storage/base/status_macros.h"

namespace mnemo {

ContextReadStream::ContextReadStream(Gate& gate, ContextEngine& contexts,
                                     grpc::CallbackServerContext* context)
    : ReadStream(gate, "mnemo.v1.ContextService/Read", context), contexts_(contexts) {}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ContextReadStream::Start(
    Gate& gate, ContextEngine& contexts, grpc::CallbackServerContext* context,
    const grpc::ByteBuffer* request) {
  auto* stream = new ContextReadStream(gate, contexts, context);
  stream->Open(*request);
  return stream;
}

absl::StatusOr<std::unique_ptr<ContextReadSession>> ContextReadStream::OpenSession() {
  MNEMO_ASSIGN_OR_RETURN(const ContextReadRequest asked, FromProto(request()));
  return contexts_.Read(call_, asked);
}

void ContextReadStream::Step() {
  absl::StatusOr<std::optional<ContextReadStep>> step = session().Next();
  if (!step.ok() || !step->has_value()) return End(step.status());
  Write(EncodeReadStep(**step));
}

}  // namespace mnemo
