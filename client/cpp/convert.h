// Between the values of mnemo/*.h and the messages of the contract.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "mnemo/admin.h"
#include "mnemo/blocks.h"
#include "mnemo/types.h"
#include "mnemo/v1/admin.pb.h"
#include "mnemo/v1/block.pb.h"
#include "mnemo/v1/common.pb.h"
#include "mnemo/v1/space.pb.h"

namespace mnemo::client {

absl::Status ToStatus(const v1::ItemError& error);
Digest ToDigest(const v1::Digest& digest);
// A value of a later version is kept as its number.
Level ToLevel(v1::Level level);

void SetSpace(const SpaceRef& space, v1::SpaceRef& message);
v1::SpaceRef ToMessage(const SpaceRef& space);
v1::PartId ToMessage(const PartId& part);
v1::Space ToMessage(const Space& space);
v1::SpacePolicy ToMessage(const SpacePolicy& policy);
v1::OfferRequest ToMessage(const OfferRequest& request);
// Without the payload.
v1::PutRequest ToStartMessage(const PutRequest& request);
v1::MatchRequest ToMessage(const MatchRequest& request);
v1::GetRequest ToMessage(const GetRequest& request);
v1::PrefetchRequest ToMessage(const PrefetchRequest& request);
v1::DeleteRequest ToMessage(const DeleteRequest& request);
v1::ListBlocksRequest ToMessage(const ListBlocksRequest& request);

// Fills the space, salt and keys that several requests have.
template <typename Message>
Message ToKeysMessage(const KeysRequest& request) {
  Message message;
  SetSpace(request.space, *message.mutable_space());
  message.set_salt(std::string(request.salt));
  for (const std::string_view key : request.keys) {
    message.mutable_keys()->add_keys(key.data(), key.size());
  }
  for (const std::string_view stretch : request.stretches) {
    message.mutable_keys()->add_stretches(stretch.data(), stretch.size());
  }
  return message;
}

Space FromMessage(const v1::Space& message);
SpaceAndUsage FromMessage(const v1::GetSpaceResponse& message);
OfferVerdict FromMessage(const v1::OfferVerdict& message);
OfferResult FromMessage(const v1::OfferResponse& message);
// `keys` is how many were asked for.
MatchResult FromMessage(const v1::MatchResponse& message, size_t keys);
PartInfo FromMessage(const v1::PartInfo& message);
BlockEvent FromMessage(const v1::BlockEvent& message);
NodeStatus FromMessage(const v1::GetNodeStatusResponse& message);
LevelInfo FromMessage(const v1::LevelInfo& message);
TierInfo FromMessage(const v1::TierInfo& message);
Placement FromMessage(const v1::Placement& message);
ConfigEntry FromMessage(const v1::ConfigEntry& message);

template <typename Value, typename Messages>
std::vector<Value> FromMessages(const Messages& messages) {
  std::vector<Value> values;
  values.reserve(static_cast<size_t>(messages.size()));
  for (const auto& message : messages) values.push_back(FromMessage(message));
  return values;
}

}  // namespace mnemo::client
