// Envelopes from a hostile disk. The first byte says how the value lies in
// pieces; with its high bit the header's checksum is put right first, so that
// what lies behind it is met too.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/codec/envelope.h"

namespace mnemo {
namespace {

PinnedBytes InPieces(const std::shared_ptr<const std::string>& value, size_t piece) {
  std::vector<ByteView> pieces;
  for (ByteView rest = AsBytes(*value); !rest.empty();) {
    pieces.push_back(rest.first(std::min(piece, rest.size())));
    rest = rest.subspan(pieces.back().size());
  }
  return PinnedBytes(std::move(pieces), value);
}

// docs/formats/envelope.md.
void MendHeaderChecksum(std::string& value) {
  constexpr uint64_t kHeaderSeed = 0x6d6e656d6f686472;
  if (value.size() < 64) return;
  const uint64_t header = EnvelopeHeaderSize(LoadLittle<uint32_t>(value.data() + 8) % 16);
  if (header > value.size()) return;
  const ByteView bytes = AsBytes(value);
  const uint64_t table = Checksum64(bytes.subspan(64, header - 64), kHeaderSeed);
  StoreLittle(value.data() + 56, Checksum64(bytes.first(56), table));
}

void Try(std::string bytes, size_t piece) {
  const auto value = std::make_shared<const std::string>(std::move(bytes));
  const PinnedBytes pinned = InPieces(value, piece);
  const auto envelope = Envelope::Parse(pinned);
  const auto from_run = Envelope::Parse(AsBytes(*value));
  MNEMO_CHECK(envelope.ok() == from_run.ok());
  if (!envelope.ok()) {
    MNEMO_CHECK(envelope.status().code() == absl::StatusCode::kDataLoss);
    return;
  }
  MNEMO_CHECK(envelope->sections() == from_run->sections());
  const CodecSet codecs;
  SectionDecoder decoder(codecs);
  // A small value may claim a large payload; a reader bounds it by its grant.
  if (envelope->payload_bytes() > 1 << 20) return;
  for (uint32_t i = 0; i < envelope->section_count(); ++i) {
    std::vector<uint8_t> exact(envelope->sections()[i].exact_bytes);
    const absl::Status status = envelope->DecodeSection(i, pinned, decoder, exact);
    MNEMO_CHECK(status.ok() || status.code() == absl::StatusCode::kDataLoss);
  }
  const absl::Status whole = envelope->VerifyAll(pinned, decoder);
  MNEMO_CHECK(whole.ok() || whole.code() == absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace mnemo

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string value(reinterpret_cast<const char*>(data) + 1, size - 1);
  if ((data[0] & 0x80) != 0) mnemo::MendHeaderChecksum(value);
  mnemo::Try(std::move(value), 1 + (data[0] & 0x7f) * 3);
  return 0;
}
