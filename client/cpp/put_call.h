// A put: parts are announced, and payload follows as far as the daemon grants.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/client_callback.h>

#include <memory>
#include <vector>

#include "client/cpp/call.h"
#include "client/cpp/put_plan.h"
#include "mnemo/client.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

class PutCall final : public Call {
 public:
  PutCall(Core& core, const CallSettings& settings, const PutRequest& request,
          Done<PutResult> done);
  ~PutCall() override;

 private:
  class Stream;

  void StartAttempt(grpc::ClientContext& context, Connection& connection) override;
  void Finish(const absl::Status& status) override;

  const v1::PutRequest start_;
  const std::vector<Bytes> payload_;
  const bool borrow_;
  const Done<PutResult> done_;
  // Used by one attempt at a time, under the lock of its stream.
  PutPlan plan_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace mnemo::client
