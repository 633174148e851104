// A read: one request out, a stream of pieces in, each copied once from where
// it was received to where the caller wants it.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/client_callback.h>

#include <memory>
#include <optional>

#include "client/cpp/call.h"
#include "client/cpp/read_assembly.h"
#include "mnemo/client.h"

namespace mnemo::client {

class GetCall final : public Call {
 public:
  GetCall(Core& core, const CallSettings& settings, const GetRequest& request,
          Done<GetResult> done);
  ~GetCall() override;

 private:
  class Stream;

  void StartAttempt(grpc::ClientContext& context, Connection& connection) override;
  void Finish(const absl::Status& status) override;
  absl::Status OnMessage(grpc::ByteBuffer& message);

  // What outlives the call where decoding waits for calibrations.
  struct Reading {
    Reading(Core& core, const GetRequest& request);
    std::optional<PartDecoder> decoder;
    ReadAssembly assembly;
  };

  Core& core_;
  const CallSettings settings_;
  const SpaceRef space_;
  const v1::GetRequest request_;
  const std::shared_ptr<Reading> reading_;
  const Done<GetResult> done_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace mnemo::client
