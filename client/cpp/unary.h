// A unary call that its caller waits for.
#pragma once

#include <future>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "client/cpp/call.h"

namespace mnemo::client {

template <typename Service, typename Request, typename Response>
absl::StatusOr<Response> CallAndWait(Core& core, const CallSettings& settings,
                                     UnaryMethod<Service, Request, Response> method,
                                     Request request) {
  std::promise<absl::StatusOr<Response>> promise;
  std::future<absl::StatusOr<Response>> future = promise.get_future();
  Call::Start(std::make_unique<UnaryCall<Service, Request, Response>>(
      core, settings, method, std::move(request),
      [&promise](const absl::Status& status, Response& response) {
        if (status.ok()) {
          promise.set_value(std::move(response));
        } else {
          promise.set_value(status);
        }
      }));
  return future.get();
}

}  // namespace mnemo::client
