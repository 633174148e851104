#include "client/cpp/convert.h"
#include "client/cpp/unary.h"
#include "mnemo/client.h"
#include "storage/base/status_macros.h"

namespace mnemo::client {
namespace {

using Stub = v1::SpaceService::StubInterface::async_interface;

template <typename Response, typename Request>
absl::StatusOr<Response> Wait(Core& core, const CallOptions& options,
                              UnaryMethod<v1::SpaceService, Request, Response> method,
                              Request request) {
  return CallAndWait<v1::SpaceService, Request, Response>(core, ControlCall(core, options), method,
                                                          std::move(request));
}

}  // namespace

absl::StatusOr<OpenedSpace> Spaces::Open(const Space& space, bool must_exist,
                                         const CallOptions& options) {
  v1::OpenSpaceRequest request;
  *request.mutable_space() = ToMessage(space);
  request.set_must_exist(must_exist);
  MNEMO_ASSIGN_OR_RETURN(const auto response, (Wait<v1::OpenSpaceResponse, v1::OpenSpaceRequest>(
                                                  core_, options, &Stub::Open, request)));
  return OpenedSpace{.space = FromMessage(response.space()), .created = response.created()};
}

absl::StatusOr<SpaceAndUsage> Spaces::Get(const SpaceRef& space, const CallOptions& options) {
  v1::GetSpaceRequest request;
  *request.mutable_space() = ToMessage(space);
  MNEMO_ASSIGN_OR_RETURN(const auto response, (Wait<v1::GetSpaceResponse, v1::GetSpaceRequest>(
                                                  core_, options, &Stub::Get, request)));
  return FromMessage(response);
}

absl::StatusOr<std::vector<SpaceAndUsage>> Spaces::List(const CallOptions& options) {
  std::vector<SpaceAndUsage> spaces;
  v1::ListSpacesRequest request;
  do {
    MNEMO_ASSIGN_OR_RETURN(const auto response,
                           (Wait<v1::ListSpacesResponse, v1::ListSpacesRequest>(
                               core_, options, &Stub::List, request)));
    for (const v1::GetSpaceResponse& space : response.spaces()) {
      spaces.push_back(FromMessage(space));
    }
    // A page that leads to itself would never end.
    if (!response.next_page_token().empty() &&
        response.next_page_token() == request.page_token()) {
      return absl::InternalError("the daemon answered the same page token twice");
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return spaces;
}

absl::StatusOr<Space> Spaces::Update(const SpaceRef& space, const SpacePolicy& policy,
                                     const CallOptions& options) {
  v1::UpdateSpaceRequest request;
  *request.mutable_space() = ToMessage(space);
  *request.mutable_policy() = ToMessage(policy);
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (Wait<v1::UpdateSpaceResponse, v1::UpdateSpaceRequest>(
                             core_, options, &Stub::Update, request)));
  return FromMessage(response.space());
}

absl::StatusOr<uint64_t> Spaces::Delete(const SpaceRef& space, const CallOptions& options) {
  v1::DeleteSpaceRequest request;
  *request.mutable_space() = ToMessage(space);
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (Wait<v1::DeleteSpaceResponse, v1::DeleteSpaceRequest>(
                             core_, options, &Stub::Delete, request)));
  return response.parts_deleted();
}

}  // namespace mnemo::client
