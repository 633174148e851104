// Blocks: requests out, answers in.
#include <utility>

#include "client/cpp/convert.h"
#include "storage/codec/envelope_excerpt.h"

namespace mnemo::client {
namespace {

// What an offer says of a part; Offered is PartOffer or PartPut.
template <typename Offered>
v1::PartOffer OfferMessage(const Offered& part, uint64_t size) {
  v1::PartOffer message;
  message.set_key(std::string(part.key));
  *message.mutable_part() = ToMessage(part.part);
  message.set_size(size);
  message.set_depth(part.depth);
  message.set_parent(std::string(part.parent));
  message.set_stretch(std::string(part.stretch));
  return message;
}

template <typename Message>
void AddKeys(Keys keys, Keys stretches, Message& message) {
  message.mutable_keys()->Reserve(static_cast<int>(keys.size()));
  for (const std::string_view key : keys) message.add_keys(key.data(), key.size());
  for (const std::string_view stretch : stretches) {
    message.add_stretches(stretch.data(), stretch.size());
  }
}

PartId FromMessage(const v1::PartId& part) {
  return {.group = part.group(), .tp_rank = part.tp_rank(), .pp_rank = part.pp_rank()};
}

void SetDigest(const Digest& digest, v1::Digest& message) {
  message.set_high(digest.high);
  message.set_low(digest.low);
}

}  // namespace

v1::OfferRequest ToMessage(const OfferRequest& request) {
  v1::OfferRequest message;
  SetSpace(request.space, *message.mutable_space());
  message.set_salt(std::string(request.salt));
  for (const PartOffer& part : request.parts) {
    v1::PartOffer& offer = *message.add_parts();
    offer = OfferMessage(part, part.size);
    if (part.digest) SetDigest(*part.digest, *offer.mutable_digest());
  }
  message.set_reservation_ms(request.reservation_ms);
  return message;
}

v1::PutRequest ToStartMessage(const PutRequest& request) {
  v1::PutRequest message;
  v1::PutStart& start = *message.mutable_start();
  SetSpace(request.space, *start.mutable_space());
  start.set_salt(std::string(request.salt));
  for (const PartPut& part : request.parts) {
    v1::PartOffer& offer = *start.add_parts();
    offer = OfferMessage(part, part.data.size());
    if (request.send_digests) SetDigest(DigestOf(part.data), *offer.mutable_digest());
  }
  start.set_reservation(request.reservation);
  start.set_durability(static_cast<v1::Durability>(request.durability));
  start.set_time_to_live_seconds(request.time_to_live_seconds);
  return message;
}

v1::MatchRequest ToMessage(const MatchRequest& request) {
  v1::MatchRequest message;
  SetSpace(request.space, *message.mutable_space());
  message.set_salt(std::string(request.salt));
  AddKeys(request.keys, request.stretches, message);
  message.mutable_groups()->Assign(request.groups.begin(), request.groups.end());
  message.mutable_tp_ranks()->Assign(request.tp_ranks.begin(), request.tp_ranks.end());
  message.mutable_pp_ranks()->Assign(request.pp_ranks.begin(), request.pp_ranks.end());
  message.set_lease_ms(request.lease_ms);
  message.set_want_bitmap(request.want_bitmap);
  message.set_peek(request.peek);
  return message;
}

v1::GetRequest ToMessage(const GetRequest& request) {
  v1::GetRequest message;
  SetSpace(request.space, *message.mutable_space());
  message.set_salt(std::string(request.salt));
  AddKeys(request.keys, request.stretches, message);
  for (const PartId& part : request.parts) *message.add_parts() = ToMessage(part);
  message.set_first_layer(request.first_layer);
  message.set_layer_count(request.layer_count);
  message.set_order(static_cast<v1::ReadOrder>(request.order));
  message.set_lease(request.lease);
  if (request.decode_at_client) {
    for (uint8_t i = 1; i < 32; ++i) {
      if (Takes(kAllCodecs, i)) message.add_takes(static_cast<v1::Encoding>(i));
    }
  }
  return message;
}

v1::PrefetchRequest ToMessage(const PrefetchRequest& request) {
  v1::PrefetchRequest message;
  SetSpace(request.space, *message.mutable_space());
  message.set_salt(std::string(request.salt));
  AddKeys(request.keys, request.stretches, *message.mutable_keys());
  for (const PartId& part : request.parts) *message.add_parts() = ToMessage(part);
  message.set_cancel(request.cancel);
  return message;
}

v1::DeleteRequest ToMessage(const DeleteRequest& request) {
  v1::DeleteRequest message;
  SetSpace(request.space, *message.mutable_space());
  message.set_salt(std::string(request.salt));
  switch (request.what) {
    case DeleteRequest::What::kKeys:
      AddKeys(request.keys, request.stretches, *message.mutable_keys());
      break;
    case DeleteRequest::What::kAllOfSalt:
      message.set_all_of_salt(true);
      break;
    case DeleteRequest::What::kAllOfSpace:
      message.set_all_of_space(true);
      break;
  }
  return message;
}

v1::ListBlocksRequest ToMessage(const ListBlocksRequest& request) {
  v1::ListBlocksRequest message;
  SetSpace(request.space, *message.mutable_space());
  if (request.salt) message.set_salt(*request.salt);
  message.set_key_prefix(request.key_prefix);
  message.set_page_size(request.page_size);
  message.set_page_token(request.page_token);
  return message;
}

OfferVerdict FromMessage(const v1::OfferVerdict& message) {
  OfferVerdict verdict{.verdict = static_cast<Verdict>(message.verdict()),
                       .digest = ToDigest(message.digest())};
  if (message.has_reason()) verdict.reason = ToStatus(message.reason());
  return verdict;
}

OfferResult FromMessage(const v1::OfferResponse& message) {
  return {.verdicts = FromMessages<OfferVerdict>(message.verdicts()),
          .reservation = message.reservation()};
}

MatchResult FromMessage(const v1::MatchResponse& message, size_t keys) {
  MatchResult result{.blocks = message.blocks(),
                     .tokens = message.tokens(),
                     .pending = {message.pending().begin(), message.pending().end()},
                     .lease = message.lease(),
                     .lease_ms = message.lease_ms(),
                     .fetch_bytes = message.fetch_bytes()};
  for (const v1::MatchRun& run : message.runs()) {
    result.runs.push_back(
        {.first = run.first(), .count = run.count(), .level = ToLevel(run.level())});
  }
  for (const v1::GroupMatch& group : message.groups()) {
    result.groups.push_back({.group = group.group(), .blocks = group.blocks()});
  }
  const std::string& bits = message.present();
  if (!bits.empty()) {
    result.present.resize(keys);
    for (size_t i = 0; i < keys && i / 8 < bits.size(); ++i) {
      result.present[i] = (static_cast<uint8_t>(bits[i / 8]) >> (i % 8) & 1) != 0;
    }
  }
  return result;
}

PartInfo FromMessage(const v1::PartInfo& message) {
  return {.key = message.key(),
          .part = FromMessage(message.part()),
          .size = message.size(),
          .stored_bytes = message.stored_bytes(),
          .digest = ToDigest(message.digest()),
          .level = ToLevel(message.level()),
          .on_disk = message.on_disk(),
          .depth = message.depth(),
          .parent = message.parent(),
          .durability = static_cast<Durability>(message.durability()),
          .pinned = message.pinned(),
          .leased = message.leased(),
          .pending = message.pending(),
          .codec = message.codec(),
          .created_unix_us = message.created_unix_us(),
          .expires_unix_us = message.expires_unix_us(),
          .uses = message.uses()};
}

BlockEvent FromMessage(const v1::BlockEvent& message) {
  return {.sequence = message.sequence(),
          .kind = static_cast<BlockEventKind>(message.kind()),
          .key = message.key(),
          .part = FromMessage(message.part()),
          .depth = message.depth(),
          .level = ToLevel(message.level()),
          .salt_digest = message.salt_digest()};
}

}  // namespace mnemo::client
