// Stored values of contexts from a hostile disk: refused, or what their encoder
// writes. The first byte chooses the decoder; the checksum is put right, so
// that what lies behind it is reached.
#include "storage/base/status_macros.h"
#include "storage/context/append_plan.h"
#include "storage/context/chunk.h"
#include "storage/context/context_reader.h"
#include "storage/context/context_record.h"
#include "storage/context/context_segments.h"
#include "storage/context/sealed_value.h"
#include "storage/context/tree_node.h"

namespace {

using namespace mnemo;

constexpr uint64_t kSeed = 42;

template <typename T>
bool Decoded(const absl::StatusOr<T>& value) {
  if (value.ok()) return true;
  MNEMO_CHECK(absl::IsDataLoss(value.status()) || absl::IsFailedPrecondition(value.status()));
  return false;
}

void CheckRows(const std::string& value) {
  const auto rows = ChunkRows::Decode(value, kSeed);
  if (!Decoded(rows)) return;
  MNEMO_CHECK(EncodeChunkRows(rows->first_position(), rows->count(), rows->type(),
                              rows->dimension(), rows->rows(), kSeed) == value);
}

// What may be written in more than one way has to come back, at least.
void CheckColumns(ByteView value) {
  const auto columns = DecodeColumns(value, kSeed);
  if (!Decoded(columns)) return;
  const std::string encoded = EncodeColumns(*columns, kSeed);
  const auto again = DecodeColumns(AsBytes(encoded), kSeed);
  MNEMO_CHECK(again.ok() && EncodeColumns(*again, kSeed) == encoded);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string value(AsText({data + 1, size - 1}));
  SealValue(value, kSeed);
  const ByteView bytes = AsBytes(value);
  switch (data[0] % 9) {
    case 0:
      CheckColumns(bytes);
      break;
    case 1:
      CheckRows(value);
      break;
    case 2:
      if (const auto node = DecodeTreeNode(bytes, kSeed); Decoded(node)) {
        MNEMO_CHECK(EncodeTreeNode(*node, kSeed) == value);
      }
      break;
    case 3:
      if (const auto head = DecodeHead(bytes, kSeed); Decoded(head)) {
        MNEMO_CHECK(EncodeHead(*head, kSeed) == value);
      }
      break;
    case 4:
      if (const auto record = DecodeRecord({1, 2}, bytes, kSeed); Decoded(record)) {
        MNEMO_CHECK(EncodeRecord(*record, kSeed) == value);
      }
      break;
    case 5:
      if (const auto link = DecodeLink(bytes, kSeed); Decoded(link)) {
        MNEMO_CHECK(EncodeLink(*link, kSeed) == value);
      }
      break;
    case 6:
      if (const auto payload = DecodePayload(bytes, kSeed); Decoded(payload)) {
        MNEMO_CHECK(EncodePayload({payload->first_position, payload->count, payload->bytes},
                                  kSeed) == value);
      }
      break;
    case 7:
      if (const auto erased = DecodeErased(bytes, kSeed); Decoded(erased)) {
        MNEMO_CHECK(EncodeErased(*erased, kSeed) == value);
      }
      break;
    default:
      if (const auto segments = DecodeSegments(bytes, kSeed); Decoded(segments)) {
        MNEMO_CHECK(EncodeSegments(*segments, kSeed) == value);
      }
  }
  return 0;
}
