// Between the messages of the contract and the engine's values.
//
// Views in an engine value point into the message, which outlives it.
#pragma once

#include <grpcpp/support/status.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mnemo/v1/admin.pb.h"
#include "mnemo/v1/block.pb.h"
#include "mnemo/v1/common.pb.h"
#include "mnemo/v1/space.pb.h"
#include "server/engine/admin_engine.h"
#include "server/engine/block_engine.h"
#include "server/engine/space_engine.h"

namespace mnemo {

// The one mapping of Status to gRPC; codes have the same numbers.
grpc::Status ToGrpc(const absl::Status& status);
void ToProto(const absl::Status& status, v1::ItemError* error);

// Absent fields become defaults; numbers of enumerations that the contract does
// not have are kInvalidArgument. Ranges are checked by the engine.
absl::StatusOr<SpaceSpec> FromProto(const v1::Space& space);
absl::StatusOr<SpacePolicy> FromProto(const v1::SpacePolicy& policy);
SpaceRef FromProto(const v1::SpaceRef& ref);
absl::StatusOr<PartId> FromProto(const v1::PartId& part);
absl::StatusOr<PartOffer> FromProto(const v1::PartOffer& offer);
absl::StatusOr<std::vector<PartOffer>> FromProto(
    const google::protobuf::RepeatedPtrField<v1::PartOffer>& offers);
absl::StatusOr<PutRequest> FromProto(const v1::PutStart& start);
MatchRequest FromProto(const v1::MatchRequest& request);
absl::StatusOr<GetRequest> FromProto(const v1::GetRequest& request);
absl::StatusOr<DeleteRequest> FromProto(const v1::DeleteRequest& request);
absl::StatusOr<PrefetchRequest> FromProto(const v1::PrefetchRequest& request);
KeysView FromProto(const v1::KeyList& list);
// Touch, Pin, Unpin and Describe have the same three fields.
template <typename Request>
KeysRequest KeysRequestFrom(const Request& request) {
  return {.space = FromProto(request.space()),
          .salt = request.salt(),
          .keys = FromProto(request.keys())};
}

void ToProto(const Space& space, v1::Space* out);
void ToProto(const SpaceEngine::Listed& listed, v1::GetSpaceResponse* out);
void ToProto(const Digest128& digest, v1::Digest* out);
void ToProto(const PartFidelity& fidelity, v1::PartFidelity* out);
void ToProto(const PartId& part, v1::PartId* out);
void ToProto(const OfferVerdict& verdict, v1::OfferVerdict* out);
void ToProto(const PutResult& result, v1::PutResult* out);
void ToProto(const MatchAnswer& answer, v1::MatchResponse* out);
void ToProto(const PartState& state, v1::PartInfo* out);
void ToProto(const BlockEvent& event, v1::BlockEvent* out);
void ToProto(const Placement& placement, v1::Placement* out);
void ToProto(const TierRow& row, v1::TierInfo* out);
v1::Level ToProto(Level level);

}  // namespace mnemo
