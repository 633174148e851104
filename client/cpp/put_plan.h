// Which piece of a put may be sent next: the order of parts, what the grant
// wants, and how many bytes it allows. Knows no transport.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mnemo/blocks.h"
#include "mnemo/v1/block.pb.h"

namespace mnemo::client {

// Payload of one message, and what may be sent before the first grant.
inline constexpr uint64_t kMaxPiece = 1 << 20;

// A piece of one part.
struct PutPiece {
  uint32_t index = 0;
  uint64_t offset = 0;
  uint64_t size = 0;
};

// Not thread-safe.
class PutPlan {
 public:
  explicit PutPlan(std::vector<uint64_t> sizes);

  // Forgets all that was sent and answered, for another attempt.
  void Reset();

  // The next piece, which counts as sent; nothing if all is sent or a grant
  // is needed first.
  std::optional<PutPiece> Next();
  // Whether no piece will follow.
  bool done() const { return current_ == parts_.size(); }

  // Errors: kInternal, if the answer breaks the contract. The put must then
  // be given up.
  absl::Status OnGrant(const v1::PutGrant& grant);
  absl::Status OnResult(const v1::PutResult& result);

  // The result of a put that ended with `status`: an error if no part was
  // answered, otherwise parts without an answer carry it.
  absl::StatusOr<PutResult> Finish(const absl::Status& status);

 private:
  struct Part {
    uint64_t size = 0;
    bool wanted = true;
    bool answered = false;
    PartStored stored;
  };

  // Steps over parts that are sent or not wanted.
  void Advance();

  std::vector<Part> parts_;
  size_t current_ = 0;   // the part being sent
  uint64_t offset_ = 0;  // of its next piece
  uint64_t sent_ = 0;
  uint64_t allowed_ = kMaxPiece;
  bool granted_ = false;
};

}  // namespace mnemo::client
