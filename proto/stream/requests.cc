// Bodies of requests, of a close, and of what goes with payload.
#include "proto/stream/messages.h"
#include "proto/stream/wire.h"

namespace mnemo::stream {
namespace {

constexpr uint8_t kWantBitmap = 1;
constexpr uint8_t kPeek = 2;

}  // namespace

std::string Encode(const Hello& hello) {
  std::string out;
  AppendText(out, hello.ticket);
  AppendByte(out, hello.want_token ? 1 : 0);
  AppendText(out, hello.client);
  return out;
}

bool Decode(ByteView body, Hello& hello) {
  ByteReader in(body);
  return TakeText(in, hello.ticket) && TakeFlag(in, hello.want_token) &&
         TakeText(in, hello.client) && AtEnd(in);
}

std::string Encode(const RegisterRequest& request) {
  std::string out;
  AppendByte(out, static_cast<uint8_t>(request.kind));
  AppendLittle(out, request.address);
  AppendLittle(out, request.bytes);
  return out;
}

bool Decode(ByteView body, RegisterRequest& request) {
  ByteReader in(body);
  const auto kind = in.Little<uint8_t>();
  request.kind = static_cast<RegisterRequest::Kind>(kind);
  request.address = in.Little<uint64_t>();
  request.bytes = in.Little<uint64_t>();
  return AtEnd(in) && kind >= 1 && kind <= static_cast<uint8_t>(RegisterRequest::Kind::kStaging);
}

std::string Encode(const UnregisterRequest& request) {
  std::string out;
  AppendLittle(out, request.region);
  return out;
}

bool Decode(ByteView body, UnregisterRequest& request) {
  ByteReader in(body);
  request.region = in.Little<uint32_t>();
  return AtEnd(in);
}

std::string Encode(const MatchRequest& request) {
  std::string out;
  AppendScope(out, request.scope);
  AppendByte(out, static_cast<uint8_t>((request.want_bitmap ? kWantBitmap : 0) |
                                       (request.peek ? kPeek : 0)));
  AppendLittle(out, request.lease_ms);
  AppendList(out, request.groups, AppendU32);
  AppendList(out, request.tp_ranks, AppendU32);
  AppendList(out, request.pp_ranks, AppendU32);
  AppendKeys(out, request.keys);
  return out;
}

bool Decode(ByteView body, MatchRequest& request) {
  ByteReader in(body);
  if (!TakeScope(in, request.scope)) return false;
  const auto flags = in.Little<uint8_t>();
  request.want_bitmap = (flags & kWantBitmap) != 0;
  request.peek = (flags & kPeek) != 0;
  request.lease_ms = in.Little<uint32_t>();
  return flags <= (kWantBitmap | kPeek) && TakeList(in, kMaxRanks, 4, request.groups, TakeU32) &&
         TakeList(in, kMaxRanks, 4, request.tp_ranks, TakeU32) &&
         TakeList(in, kMaxRanks, 4, request.pp_ranks, TakeU32) && TakeKeys(in, request.keys) &&
         AtEnd(in);
}

std::string Encode(const OfferRequest& request) {
  std::string out;
  AppendScope(out, request.scope);
  AppendLittle(out, request.reservation_ms);
  AppendList(out, request.parts, AppendOffered);
  return out;
}

bool Decode(ByteView body, OfferRequest& request) {
  ByteReader in(body);
  return TakeScope(in, request.scope) && TakeU32(in, request.reservation_ms) &&
         TakeList(in, kMaxParts, kLeastOffered, request.parts, TakeOffered) && AtEnd(in);
}

std::string Encode(const GetRequest& request) {
  std::string out;
  AppendScope(out, request.scope);
  AppendLittle(out, request.first_layer);
  AppendLittle(out, request.layer_count);
  AppendLittle(out, request.lease);
  AppendLittle(out, request.takes);
  AppendList(out, request.parts, AppendPart);
  AppendKeys(out, request.keys);
  AppendPlaces(out, request.places, request.slices);
  return out;
}

bool Decode(ByteView body, GetRequest& request) {
  ByteReader in(body);
  if (!TakeScope(in, request.scope)) return false;
  request.first_layer = in.Little<uint32_t>();
  request.layer_count = in.Little<uint32_t>();
  request.lease = in.Little<uint64_t>();
  request.takes = in.Little<uint32_t>();
  return TakeList(in, kMaxRanks, 5, request.parts, TakePart) && TakeKeys(in, request.keys) &&
         TakePlaces(in, request.places, request.slices) && AtEnd(in);
}

std::string Encode(const PutRequest& request) {
  std::string out;
  AppendScope(out, request.scope);
  AppendLittle(out, request.reservation);
  AppendByte(out, request.durability);
  AppendLittle(out, request.time_to_live_seconds);
  AppendList(out, request.parts, AppendOffered);
  AppendPlaces(out, request.places, request.slices);
  return out;
}

bool Decode(ByteView body, PutRequest& request) {
  ByteReader in(body);
  if (!TakeScope(in, request.scope)) return false;
  request.reservation = in.Little<uint64_t>();
  request.durability = in.Little<uint8_t>();
  request.time_to_live_seconds = in.Little<uint64_t>();
  return request.durability <= 3 &&
         TakeList(in, kMaxParts, kLeastOffered, request.parts, TakeOffered) &&
         TakePlaces(in, request.places, request.slices) && AtEnd(in);
}

std::string Encode(const TouchRequest& request) {
  std::string out;
  AppendScope(out, request.scope);
  AppendKeys(out, request.keys);
  return out;
}

bool Decode(ByteView body, TouchRequest& request) {
  ByteReader in(body);
  return TakeScope(in, request.scope) && TakeKeys(in, request.keys) && AtEnd(in);
}

std::string Encode(const PrefetchRequest& request) {
  std::string out;
  AppendScope(out, request.scope);
  AppendLittle(out, request.cancel);
  AppendList(out, request.parts, AppendPart);
  AppendKeys(out, request.keys);
  return out;
}

bool Decode(ByteView body, PrefetchRequest& request) {
  ByteReader in(body);
  if (!TakeScope(in, request.scope)) return false;
  request.cancel = in.Little<uint64_t>();
  return TakeList(in, kMaxRanks, 5, request.parts, TakePart) && TakeKeys(in, request.keys) &&
         AtEnd(in);
}

std::string Encode(const Credit& credit) {
  std::string out;
  AppendLittle(out, credit.bytes);
  AppendList(out, credit.wanted, AppendU32);
  return out;
}

bool Decode(ByteView body, Credit& credit) {
  ByteReader in(body);
  credit.bytes = in.Little<uint64_t>();
  return TakeList(in, kMaxParts, 4, credit.wanted, TakeU32) && AtEnd(in);
}

std::string Encode(const Data& data) {
  std::string out;
  AppendLittle(out, data.index);
  AppendLittle(out, data.offset);
  return out;
}

bool Decode(ByteView body, Data& data) {
  ByteReader in(body);
  data.index = in.Little<uint32_t>();
  data.offset = in.Little<uint64_t>();
  return AtEnd(in);
}

std::string Encode(const Close& close) {
  std::string out;
  AppendByte(out, static_cast<uint8_t>(close.reason));
  AppendText(out, close.message.substr(0, kMaxText));
  return out;
}

bool Decode(ByteView body, Close& close) {
  ByteReader in(body);
  const auto reason = in.Little<uint8_t>();
  close.reason = static_cast<CloseReason>(reason);
  return TakeText(in, close.message) && AtEnd(in) && close.message.size() <= kMaxText &&
         reason >= 1 && reason < kCloseReasonCount;
}

}  // namespace mnemo::stream
