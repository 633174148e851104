// One Put: payload from the socket's slices into the engine.
#pragma once

#include <memory>

#include "server/engine/block_engine.h"
#include "server/rpc/exchange_stream.h"
#include "server/rpc/wire.h"

namespace mnemo {

// Flow: the stream claims a window of the gate's byte budget for as long as it
// lives, and the grant runs that far ahead of what was received. What was
// received lies in the store's own extents.
class PutStream final : public ExchangeStream {
 public:
  static grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Start(
      Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context);

 private:
  PutStream(Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context);
  void Begin();
  void Received() override { Submit(&PutStream::Handle); }
  void EndOfInput() override;
  void DropSession() override { session_.reset(); }
  bool IsProgress() override;
  // Handles one message; runs on the executor.
  void Handle();
  // Each passes the turn on, or ends the call.
  void HandleStart();
  void HandleData();
  void Granted();

  absl::Status OpenSession();
  absl::Status CheckData() const;
  absl::Status TakeData();
  // Whether the message is of a part that was not wanted, sent before the client
  // could know.
  bool IsUnwanted() const;
  void GrantMore();
  void SendGrant(bool first);
  void SendResults(std::vector<PutResult> results);

  // Payload that came, and what the grants count up to.
  uint64_t bytes_seen() const { return session_->bytes_received() + bytes_unwanted_; }
  uint64_t bytes_to_come() const { return session_->bytes_wanted() + bytes_unwanted_; }

  BlockEngine& blocks_;
  ParsedPut message_;
  std::unique_ptr<PutSession> session_;
  size_t results_left_ = 0;
  uint64_t window_ = 0;
  uint64_t granted_ = 0;         // bytes of payload, from the start
  uint64_t bytes_unwanted_ = 0;  // came, and were dropped
  uint64_t bytes_unmarked_ = 0;  // came since the wait for the client counted as ended
};

}  // namespace mnemo
