// The hand-written parser of reads against protobuf's: what it accepts,
// protobuf accepts as well and reads the same.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "client/cpp/wire.h"
#include "mnemo/v1/block.pb.h"
#include "storage/base/status_macros.h"

using mnemo::client::Bytes;

// The first byte says where the rest is cut into slices.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t slice = 1 + data[0] % 64;
  const Bytes message(data + 1, size - 1);
  std::vector<Bytes> slices;
  for (size_t at = 0; at < message.size(); at += slice) {
    slices.push_back(message.subspan(at, std::min(slice, message.size() - at)));
  }

  mnemo::client::GetDataView view{.data =
                                      mnemo::client::SliceCursor(std::span<const Bytes>{})};
  if (mnemo::client::ParseGetResponse(slices, view) != mnemo::client::ParsedGetResponse::kData) {
    return 0;
  }
  mnemo::v1::GetResponse parsed;
  MNEMO_CHECK(parsed.ParseFromArray(message.data(), static_cast<int>(message.size())));
  MNEMO_CHECK(parsed.has_data());
  MNEMO_CHECK(view.index == parsed.data().index());
  MNEMO_CHECK(view.offset == parsed.data().offset());
  std::string payload(view.data.remaining(), '\0');
  MNEMO_CHECK(view.data.CopyTo(reinterpret_cast<uint8_t*>(payload.data()), payload.size()));
  MNEMO_CHECK(payload == parsed.data().data());
  return 0;
}
