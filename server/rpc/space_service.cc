#include "server/rpc/space_service.h"

#include "storage/base/status_macros.h"

namespace mnemo {

grpc::ServerUnaryReactor* SpaceServiceHandler::Open(grpc::CallbackServerContext* context,
                                                    const v1::OpenSpaceRequest* request,
                                                    v1::OpenSpaceResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.SpaceService/Open"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        MNEMO_ASSIGN_OR_RETURN(const SpaceSpec spec, FromProto(request->space()));
        MNEMO_ASSIGN_OR_RETURN(const auto opened, spaces_.Open(call, spec, request->must_exist()));
        ToProto(*opened.space, response->mutable_space());
        response->set_created(opened.created);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* SpaceServiceHandler::Get(grpc::CallbackServerContext* context,
                                                   const v1::GetSpaceRequest* request,
                                                   v1::GetSpaceResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.SpaceService/Get"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(const auto listed,
                                                   spaces_.Get(call, FromProto(request->space())));
                            ToProto(listed, response);
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* SpaceServiceHandler::List(grpc::CallbackServerContext* context,
                                                    const v1::ListSpacesRequest* request,
                                                    v1::ListSpacesResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.SpaceService/List"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(
                                const auto page,
                                spaces_.List(call, request->page_size(), request->page_token(),
                                             *response->mutable_next_page_token()));
                            for (const auto& listed : page) ToProto(listed, response->add_spaces());
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* SpaceServiceHandler::Update(grpc::CallbackServerContext* context,
                                                      const v1::UpdateSpaceRequest* request,
                                                      v1::UpdateSpaceResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.SpaceService/Update"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        MNEMO_ASSIGN_OR_RETURN(const SpacePolicy policy, FromProto(request->policy()));
        MNEMO_ASSIGN_OR_RETURN(const auto space,
                               spaces_.Update(call, FromProto(request->space()), policy,
                                              {.floor = !request->policy().has_floor(),
                                               .levels = !request->policy().has_levels()}));
        ToProto(*space, response->mutable_space());
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* SpaceServiceHandler::Delete(grpc::CallbackServerContext* context,
                                                      const v1::DeleteSpaceRequest* request,
                                                      v1::DeleteSpaceResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.SpaceService/Delete"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(
                                const uint64_t deleted,
                                spaces_.Delete(call, FromProto(request->space())));
                            response->set_parts_deleted(deleted);
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* SpaceServiceHandler::GetCalibration(
    grpc::CallbackServerContext* context, const v1::GetCalibrationRequest* request,
    v1::GetCalibrationResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.SpaceService/GetCalibration"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        MNEMO_ASSIGN_OR_RETURN(
            *response->mutable_calibration(),
            spaces_.GetCalibration(call, FromProto(request->space()), request->id()));
        return absl::OkStatus();
      });
}

}  // namespace mnemo
