// Parts that came encoded from a server that lies. The first byte says which of the
// excerpt's checksums are put right, so that what lies behind them is met too, the second
// what runs are announced.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/cpp/part_decoder.h"
#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"
#include "tests/support/encoded_part.h"

namespace mnemo::client {
namespace {

constexpr uint8_t kMendHeader = 1;
constexpr uint8_t kMendSections = 2;
constexpr uint8_t kSmallRoom = 4;

// docs/formats/envelope.md.
void Mend(std::string& value, uint8_t what) {
  constexpr uint64_t kHeaderSeed = 0x6d6e656d6f686472;
  if (value.size() < 64) return;
  const uint32_t sections = LoadLittle<uint32_t>(value.data() + 8);
  if (sections > 16 || EnvelopeHeaderSize(sections) > value.size()) return;
  const uint64_t key = LoadLittle<uint64_t>(value.data() + 16);
  for (uint32_t i = 0; (what & kMendSections) != 0 && i < sections; ++i) {
    char* const entry = value.data() + 64 + size_t{32} * i;
    const auto offset = LoadLittle<uint64_t>(entry);
    const auto stored = LoadLittle<uint32_t>(entry + 8);
    if (offset > value.size() || stored > value.size() - offset) continue;
    StoreLittle(entry + 16, Checksum64(AsBytes(value).subspan(offset, stored), key));
  }
  if ((what & kMendHeader) == 0) return;
  const uint64_t header = EnvelopeHeaderSize(sections);
  const uint64_t table = Checksum64(AsBytes(value).subspan(64, header - 64), kHeaderSeed);
  StoreLittle(value.data() + 56, Checksum64(AsBytes(value).first(56), table));
}

// One calibration is known, so that sections that name it decode.
const CalibrationCache& Known() {
  static const CalibrationCache* const cache = [] {
    auto* made = new CalibrationCache();
    const auto sample = ::mnemo::testing::MakeEncodedSample(StoredForm::kRotated4);
    MNEMO_CHECK(
        made->Add("s", sample.calibration->id(), AsBytes(sample.calibration->Serialize())).ok());
    return made;
  }();
  return *cache;
}

void Try(const std::string& bytes, uint8_t what, uint8_t runs) {
  std::vector<uint8_t> memory((what & kSmallRoom) != 0 ? 100 : 64 << 10);
  const Destination to{.memory = memory};
  PartDecoder decoder(Known(), {.space = "s", .destinations = std::span(&to, 1)});
  EncodedPart part{.bytes = {bytes.begin(), bytes.end()}};
  if ((runs & 1) != 0) part.runs.push_back({runs / 2U % 4, runs / 8U % 4});
  if ((runs & 32) != 0) part.runs.push_back({runs / 64U, 1});
  PartRead read;
  if (bytes.size() >= 48) {
    part.put_digest = {.high = LoadLittle<uint64_t>(bytes.data() + 32),
                       .low = LoadLittle<uint64_t>(bytes.data() + 24)};
    read.size = LoadLittle<uint64_t>(bytes.data() + 40);
  }
  const std::set<uint32_t> missing = decoder.Decode(0, part, {}, read);
  if (!missing.empty()) {
    CalibrationFailures failures;
    for (const uint32_t id : missing) failures.emplace(id, absl::NotFoundError("none"));
    MNEMO_CHECK(decoder.Decode(0, part, failures, read).empty());
    MNEMO_CHECK(absl::IsNotFound(read.status));
  }
  MNEMO_CHECK(read.bytes <= memory.size());
  MNEMO_CHECK(read.status.ok() || absl::IsDataLoss(read.status) || absl::IsNotFound(read.status) ||
              absl::IsOutOfRange(read.status));
}

}  // namespace
}  // namespace mnemo::client

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  std::string bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  mnemo::client::Mend(bytes, data[0]);
  mnemo::client::Try(bytes, data[0], data[1]);
  return 0;
}
