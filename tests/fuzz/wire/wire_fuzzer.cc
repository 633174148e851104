// Our reading of a PutRequest against protobuf's. The first byte says where the
// message is cut into slices.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/rpc/wire.h"
#include "storage/base/status_macros.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t step = 1 + data[0];
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += step) {
    slices.emplace_back(bytes.data() + at, std::min(step, bytes.size() - at));
  }
  const grpc::ByteBuffer message(slices.data(), slices.size());

  const absl::StatusOr<mnemo::ParsedPut> ours = mnemo::ParsePut(message);
  mnemo::v1::PutRequest theirs;
  const bool parsed = theirs.ParseFromString(bytes) && (theirs.has_start() || theirs.has_data());
  MNEMO_CHECK(ours.ok() == parsed);
  if (!parsed) return 0;
  if (theirs.has_start()) {
    MNEMO_CHECK(ours->kind == mnemo::ParsedPut::Kind::kStart);
    MNEMO_CHECK(ours->start.SerializeAsString() == theirs.start().SerializeAsString());
    return 0;
  }
  MNEMO_CHECK(ours->kind == mnemo::ParsedPut::Kind::kData);
  MNEMO_CHECK(ours->index == theirs.data().index());
  MNEMO_CHECK(ours->offset == theirs.data().offset());
  std::string payload;
  for (const mnemo::ByteView piece : ours->pieces) payload += mnemo::AsText(piece);
  MNEMO_CHECK(payload == theirs.data().data());
  MNEMO_CHECK(ours->size == payload.size());
  return 0;
}
