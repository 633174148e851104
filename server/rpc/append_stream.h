// One Append: batches of tokens from the socket into the engine.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "mnemo/v1/context.pb.h"
#include "server/engine/context_engine.h"
#include "server/rpc/exchange_stream.h"

namespace mnemo {

// Flow: the next batch is read when the one before is stored, and while a batch
// is here its bytes are claimed. Between batches nothing is claimed: a writer
// may keep its stream open for as long as it likes, also without sending.
class AppendStream final : public ExchangeStream {
 public:
  static grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Start(
      Gate& gate, ContextEngine& contexts, grpc::CallbackServerContext* context);

  void OnShutdown() override { EndInsteadOfReading(); }

 private:
  AppendStream(Gate& gate, ContextEngine& contexts, grpc::CallbackServerContext* context);
  void Begin();
  void Received() override;
  void EndOfInput() override;
  void DropSession() override { session_.reset(); }
  // Handles one message; runs on the executor.
  void Handle();

  // Does what the message says; returns what it is answered with.
  absl::StatusOr<v1::AppendResponse> Take();
  absl::StatusOr<v1::AppendResponse> Open(const v1::AppendStart& start);
  absl::StatusOr<v1::AppendResponse> Append(const v1::TokenBatch& batch);
  // Says where the stream stood, then ends it.
  void Refuse(const absl::Status& status);

  ContextEngine& contexts_;
  std::unique_ptr<AppendSession> session_;
};

}  // namespace mnemo
