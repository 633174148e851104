// A part's envelope in the form in which it goes to a farther or nearer level.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block/directory.h"
#include "storage/block/envelope.h"
#include "storage/block/store_core.h"
#include "storage/tier/block_level.h"

namespace mnemo {

// An envelope, either as it lay somewhere or made anew.
class EncodedPart {
 public:
  EncodedPart(PinnedBytes as_it_lay, uint8_t codec) : pinned_(std::move(as_it_lay)), codec_(codec) {}
  EncodedPart(std::string made, uint8_t codec) : made_(std::move(made)), codec_(codec) {}

  uint8_t codec() const { return codec_; }
  uint64_t size() const { return made_.empty() ? pinned_.size() : made_.size(); }
  // Valid while this lives, and stays where it is.
  std::vector<ByteView> pieces() const {
    return made_.empty() ? pinned_.pieces() : std::vector<ByteView>{AsBytes(made_)};
  }

 private:
  PinnedBytes pinned_;
  std::string made_;
  uint8_t codec_;
};

// The header of `stored`, checked against what the directory knows of the part.
// Looks at no payload byte. Errors: kDataLoss.
absl::StatusOr<Envelope> CheckedHeader(const DirectoryEntry& entry, const PinnedBytes& stored);

// The envelope `stored`, which lies there in `codec`, in the lossless codec if
// its space allows it and it pays; otherwise as it is, unverified then.
// Errors: kDataLoss.
absl::StatusOr<EncodedPart> EncodeIfItPays(StoreCore& core, const DirectoryEntry& entry,
                                           const PinnedBytes& stored, uint8_t codec);

// The envelope with every section raw, verified: what L1 keeps. Errors: kDataLoss.
absl::StatusOr<EncodedPart> ExactForm(const StoreCore& core, const DirectoryEntry& entry,
                                      const PinnedBytes& stored);

// That `stored` is the whole of the part, undamaged. Errors: kDataLoss.
absl::Status VerifyPart(const StoreCore& core, const DirectoryEntry& entry,
                        const PinnedBytes& stored);

}  // namespace mnemo
