// Segment files from a hostile disk whose checksums agree: refused, or a segment
// that can be searched and stored again.
//
// Checksums would keep a fuzzer out, so the input is content without them: a
// header's fields, then sections of a number and a length each.
#include <string>
#include <vector>

#include "index/vector/sealed_segment.h"
#include "index/vector/segment_file.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Zeros for every row.
class ZeroReader final : public VectorReader {
 public:
  absl::Status Read(std::span<const RowId> rows, ReadScratch&,
                    std::span<const uint8_t*> out) const override {
    for (size_t i = 0; i < rows.size(); ++i) out[i] = zeros_.data();
    return absl::OkStatus();
  }

 private:
  const std::vector<uint8_t> zeros_ = std::vector<uint8_t>(kMaxVectorDimension * 4 + 4);
};

std::string FileOf(ByteView input) {
  ByteReader reader(input);
  SegmentHeader header;
  header.kind = static_cast<SegmentKind>(1 + reader.Little<uint8_t>() % 2);
  header.shape.metric = static_cast<Metric>(reader.Little<uint8_t>() % kMetrics);
  header.shape.type = static_cast<ElementType>(reader.Little<uint8_t>() % kScoredTypes);
  header.shape.dimension = reader.Little<uint16_t>();
  header.rows = reader.Little<uint32_t>();
  header.nodes = reader.Little<uint32_t>();
  header.seed = 1;
  SegmentFileWriter writer(header);
  while (reader.ok() && reader.remaining() > 0) {
    const auto section = static_cast<SegmentSection>(reader.Little<uint8_t>());
    const size_t size = std::min<size_t>(reader.Little<uint16_t>(), reader.remaining());
    writer.Add(section, reader.Take(size));
  }
  return writer.Finish();
}

void Check(ByteView bytes, uint64_t digest) {
  const auto segment = LoadSegment(bytes, digest, BestKernels());
  if (!segment.ok()) {
    MNEMO_CHECK(segment.status().code() == absl::StatusCode::kDataLoss ||
                segment.status().code() == absl::StatusCode::kFailedPrecondition);
    return;
  }
  const std::vector<float> ones((*segment)->shape().dimension, 1.0F);
  const auto query = Query::Prepare((*segment)->shape(), ones);
  TopK best(5);
  RowSet filter((*segment)->rows());
  filter.AddRange(0, (*segment)->rows() / 2 + 1);
  SegmentSearch options;
  MNEMO_CHECK((*segment)->Search(*query, options, ZeroReader(), best, nullptr).ok());
  options.filter = &filter;
  MNEMO_CHECK((*segment)->Search(*query, options, ZeroReader(), best, nullptr).ok());
  for (const Hit& hit : best.Take()) MNEMO_CHECK(hit.id < (*segment)->rows());
  const SealedSegment::Serialized again = (*segment)->Serialize();
  MNEMO_CHECK(LoadSegment(AsBytes(again.bytes), again.digest, BestKernels()).ok());
}

}  // namespace
}  // namespace mnemo

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mnemo;
  Check({data, size}, SegmentDigest({data, size}));
  const std::string made = FileOf({data, size});
  Check(AsBytes(made), SegmentDigest(AsBytes(made)));
  return 0;
}
