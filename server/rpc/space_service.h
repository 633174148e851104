// Handlers of SpaceService: decode, pass the gate, call the engine, encode.
#pragma once

#include "mnemo/v1/space.grpc.pb.h"
#include "server/engine/space_engine.h"
#include "server/rpc/unary.h"

namespace mnemo {

class SpaceServiceHandler final : public v1::SpaceService::CallbackService {
 public:
  SpaceServiceHandler(Gate& gate, SpaceEngine& spaces) : gate_(gate), spaces_(spaces) {}

  grpc::ServerUnaryReactor* Open(grpc::CallbackServerContext* context,
                                 const v1::OpenSpaceRequest* request,
                                 v1::OpenSpaceResponse* response) override;
  grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* context,
                                const v1::GetSpaceRequest* request,
                                v1::GetSpaceResponse* response) override;
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const v1::ListSpacesRequest* request,
                                 v1::ListSpacesResponse* response) override;
  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const v1::UpdateSpaceRequest* request,
                                   v1::UpdateSpaceResponse* response) override;
  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context,
                                   const v1::DeleteSpaceRequest* request,
                                   v1::DeleteSpaceResponse* response) override;
  grpc::ServerUnaryReactor* GetCalibration(grpc::CallbackServerContext* context,
                                           const v1::GetCalibrationRequest* request,
                                           v1::GetCalibrationResponse* response) override;

 private:
  Gate& gate_;
  SpaceEngine& spaces_;
};

}  // namespace mnemo
