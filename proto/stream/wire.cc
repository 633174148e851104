#include "proto/stream/wire.h"

namespace mnemo::stream {

void AppendScope(std::string& out, const Scope& scope) {
  AppendLittle(out, scope.space);
  if (scope.space == 0) AppendText(out, scope.space_name);
  AppendText(out, scope.salt);
}

bool TakeScope(ByteReader& in, Scope& scope) {
  scope.space = in.Little<uint64_t>();
  if (scope.space == 0 && !TakeText(in, scope.space_name)) return false;
  return TakeText(in, scope.salt);
}

void AppendKeys(std::string& out, const KeyRefs& keys) {
  size_t bytes = 2 * sizeof(uint32_t);
  for (const std::string_view key : keys.keys) bytes += sizeof(uint16_t) + key.size();
  for (const std::string_view stretch : keys.stretches) bytes += sizeof(uint16_t) + stretch.size();
  out.reserve(out.size() + bytes);
  AppendList(out, keys.keys, AppendText);
  AppendList(out, keys.stretches, AppendText);
}

bool TakeKeys(ByteReader& in, KeyRefs& keys) {
  return TakeList(in, kMaxKeys, 2, keys.keys, TakeText) &&
         TakeList(in, kMaxKeys, 2, keys.stretches, TakeText);
}

void AppendPart(std::string& out, const PartRef& part) {
  AppendByte(out, part.group);
  AppendLittle(out, part.tp_rank);
  AppendLittle(out, part.pp_rank);
}

bool TakePart(ByteReader& in, PartRef& part) {
  part.group = in.Little<uint8_t>();
  part.tp_rank = in.Little<uint16_t>();
  part.pp_rank = in.Little<uint16_t>();
  return in.ok();
}

void AppendOffered(std::string& out, const OfferedPart& part) {
  AppendText(out, part.key);
  AppendPart(out, part.part);
  AppendLittle(out, part.size);
  AppendLittle(out, part.depth);
  AppendText(out, part.parent);
  AppendText(out, part.stretch);
  AppendByte(out, part.digest ? 1 : 0);
  if (part.digest) AppendDigest(out, *part.digest);
}

bool TakeOffered(ByteReader& in, OfferedPart& part) {
  bool has_digest = false;
  if (!TakeText(in, part.key) || !TakePart(in, part.part)) return false;
  part.size = in.Little<uint64_t>();
  part.depth = in.Little<uint32_t>();
  if (!TakeText(in, part.parent) || !TakeText(in, part.stretch) || !TakeFlag(in, has_digest)) {
    return false;
  }
  if (has_digest) part.digest = TakeDigest(in);
  return in.ok();
}

void AppendPlaces(std::string& out, const std::vector<Place>& places,
                  const std::vector<Slice>& slices) {
  AppendList(out, places, [&](std::string& to, const Place& place) {
    AppendLittle(to, place.region);
    AppendLittle(to, place.count);
    for (const Slice& slice : SlicesOf(slices, place)) {
      AppendLittle(to, slice.offset);
      AppendLittle(to, slice.length);
      AppendLittle(to, slice.stride);
      AppendLittle(to, slice.count);
    }
  });
}

bool TakePlaces(ByteReader& in, std::vector<Place>& places, std::vector<Slice>& slices) {
  constexpr size_t kSliceBytes = 28;
  return TakeList(in, kMaxPlaces, 8, places, [&](ByteReader& from, Place& place) {
    place.region = from.Little<uint32_t>();
    place.count = from.Little<uint32_t>();
    if (!from.ok() || place.count > from.remaining() / kSliceBytes) return false;
    place.first = static_cast<uint32_t>(slices.size());
    for (uint32_t i = 0; i < place.count; ++i) {
      Slice slice;
      slice.offset = from.Little<uint64_t>();
      slice.length = from.Little<uint64_t>();
      slice.stride = from.Little<uint64_t>();
      slice.count = from.Little<uint32_t>();
      slices.push_back(slice);
    }
    return from.ok();
  });
}

}  // namespace mnemo::stream
