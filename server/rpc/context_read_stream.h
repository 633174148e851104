// One Read of a context: steps of the engine out to the socket.
#pragma once

#include <memory>

#include "mnemo/v1/context.pb.h"
#include "server/engine/context_engine.h"
#include "server/rpc/read_stream.h"

namespace mnemo {

class ContextReadStream final : public ReadStream<v1::ReadContextRequest, ContextReadSession> {
 public:
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(Gate& gate, ContextEngine& contexts,
                                                           grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request);

 private:
  ContextReadStream(Gate& gate, ContextEngine& contexts, grpc::CallbackServerContext* context);
  absl::StatusOr<std::unique_ptr<ContextReadSession>> OpenSession() override;
  void Step() override;

  ContextEngine& contexts_;
};

}  // namespace mnemo
