#include "client/cpp/convert.h"
#include "client/cpp/unary.h"
#include "mnemo/client.h"
#include "storage/base/status_macros.h"

namespace mnemo::client {
namespace {

using Stub = v1::AdminService::StubInterface::async_interface;

template <typename Response, typename Request>
absl::StatusOr<Response> Wait(Core& core, const CallOptions& options,
                              UnaryMethod<v1::AdminService, Request, Response> method,
                              Request request) {
  return CallAndWait<v1::AdminService, Request, Response>(core, ControlCall(core, options), method,
                                                          std::move(request));
}

}  // namespace

absl::StatusOr<NodeStatus> Admin::GetNodeStatus(const CallOptions& options) {
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (Wait<v1::GetNodeStatusResponse, v1::GetNodeStatusRequest>(
                             core_, options, &Stub::GetNodeStatus, {})));
  return FromMessage(response);
}

absl::StatusOr<std::vector<LevelInfo>> Admin::ListLevels(const CallOptions& options) {
  MNEMO_ASSIGN_OR_RETURN(const auto response, (Wait<v1::ListLevelsResponse, v1::ListLevelsRequest>(
                                                  core_, options, &Stub::ListLevels, {})));
  return FromMessages<LevelInfo>(response.levels());
}

absl::StatusOr<std::vector<TierInfo>> Admin::ListTiers(const CallOptions& options) {
  MNEMO_ASSIGN_OR_RETURN(const auto response, (Wait<v1::ListTiersResponse, v1::ListTiersRequest>(
                                                  core_, options, &Stub::ListTiers, {})));
  return FromMessages<TierInfo>(response.tiers());
}

absl::StatusOr<std::vector<Placement>> Admin::Explain(const ExplainRequest& request,
                                                      const CallOptions& options) {
  v1::ExplainPlacementRequest message;
  SetSpace(request.space, *message.mutable_space());
  message.set_salt(std::string(request.salt));
  message.set_key(std::string(request.key));
  message.set_stretch(std::string(request.stretch));
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (Wait<v1::ExplainPlacementResponse, v1::ExplainPlacementRequest>(
                             core_, options, &Stub::ExplainPlacement, message)));
  return FromMessages<Placement>(response.parts());
}

absl::StatusOr<std::vector<ConfigEntry>> Admin::GetConfig(const CallOptions& options) {
  MNEMO_ASSIGN_OR_RETURN(const auto response, (Wait<v1::GetConfigResponse, v1::GetConfigRequest>(
                                                  core_, options, &Stub::GetConfig, {})));
  return FromMessages<ConfigEntry>(response.entries());
}

}  // namespace mnemo::client
