// The container of a serialised segment: docs/formats/vector-segment.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "index/vector/segment.h"
#include "storage/base/bytes.h"

namespace mnemo {

// What stands in front of the sections.
struct SegmentHeader {
  SegmentKind kind = SegmentKind::kHnsw;
  VectorShape shape;
  uint32_t rows = 0;   // of the segment, deleted ones included
  uint32_t nodes = 0;  // rows that it holds
  uint64_t seed = 0;   // of the rotation
};

// Numbers of the sections; each at most once in a file.
enum class SegmentSection : uint32_t {
  kCentre = 1,
  kRows = 2,
  kCalibration = 3,
  kCodes = 16,
  kFactors = 17,
  kGraph = 18,
  kLevels = 19,
  kGroundLinks = 20,
  kUpperLinks = 21,
  kLists = 32,
  kCentroids = 33,
  kListCodes = 34,
  kListFactors = 35,
  kListNodes = 36,
};

// Puts a file together. Not thread-safe.
class SegmentFileWriter {
 public:
  explicit SegmentFileWriter(const SegmentHeader& header) : header_(header) {}
  // `bytes` outlives Finish.
  void Add(SegmentSection section, ByteView bytes) { sections_.push_back({section, bytes}); }
  std::string Finish() const;

 private:
  struct Entry {
    SegmentSection section;
    ByteView bytes;
  };
  SegmentHeader header_;
  std::vector<Entry> sections_;
};

// Takes a file apart. Views point into the bytes that it was opened with.
class SegmentFileReader {
 public:
  // Errors: kDataLoss; kFailedPrecondition for another version.
  static absl::StatusOr<SegmentFileReader> Open(ByteView bytes);

  const SegmentHeader& header() const { return header_; }
  // The bytes of a section that has to be `size` bytes long.
  // Errors: kDataLoss (missing, or another size).
  absl::StatusOr<ByteView> Get(SegmentSection section, uint64_t size) const;
  // The same for a section of any size; empty if it is not there.
  ByteView Find(SegmentSection section) const;

 private:
  struct Entry {
    uint32_t section;
    ByteView bytes;
  };
  SegmentHeader header_;
  std::vector<Entry> sections_;
};

// What LoadSegment compares.
uint64_t SegmentDigest(ByteView bytes);

// kDataLoss, saying what of a segment file is wrong.
absl::Status CorruptSegment(std::string_view what);

}  // namespace mnemo
