// Puts what a read answers into the caller's memory, and believes nothing:
// every index, offset and size is checked before a byte is written.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/part_decoder.h"
#include "client/cpp/wire.h"
#include "mnemo/blocks.h"
#include "mnemo/v1/block.pb.h"

namespace mnemo::client {

// Not thread-safe.
class ReadAssembly {
 public:
  // Of a request, what matters here; the destinations are borrowed. `decoder`, which
  // outlives it, is null where the request takes nothing encoded.
  explicit ReadAssembly(const GetRequest& request, PartDecoder* decoder = nullptr);

  // Forgets all answers, for another attempt.
  void Reset();

  // Errors: kInternal, if the answer breaks the contract. The read must then
  // be given up.
  absl::Status OnHeader(const v1::GetHeader& header);
  absl::Status OnData(GetDataView piece);

  // Parts that have come are still to be decoded, and take these calibrations.
  std::set<uint32_t> MissingCalibrations() const;
  // Decodes them, now that they are there or have failed.
  void DecodeRest(const CalibrationFailures& failures);

  // The result of a read that ended with `status`: an error if no part was
  // answered, otherwise parts without an answer carry it.
  absl::StatusOr<GetResult> Finish(const absl::Status& status);

 private:
  struct Part {
    bool announced = false;
    bool complete = false;
    bool has_digest = true;  // false: there is nothing to compare the bytes with
    uint64_t expected = 0;
    // What has landed: ends by starts, neighbours merged. One run but for
    // layer-wise reads.
    std::map<uint64_t, uint64_t> landed;
    std::optional<EncodedPart> encoded;  // until it is decoded
    std::set<uint32_t> missing;          // calibrations that it waits for
    PartRead read;
  };

  // False if the bytes are there already.
  static bool AddRun(std::map<uint64_t, uint64_t>& runs, uint64_t begin, uint64_t end);
  absl::Status OnEncodedHeader(const v1::GetHeader& header, Part& part);
  absl::Status OnEncodedData(GetDataView piece, Part& part);
  void Decode(size_t index, const CalibrationFailures& failures);
  void Complete(size_t index);

  const std::span<const Destination> destinations_;
  PartDecoder* const decoder_;
  const bool verify_;
  const std::function<void(size_t, uint64_t, uint64_t)> on_data_;
  std::vector<Part> parts_;
};

}  // namespace mnemo::client
