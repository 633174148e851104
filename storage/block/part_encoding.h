// A part's envelope in the form in which it goes to a farther or nearer level.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block/directory.h"
#include "storage/block/store_core.h"
#include "storage/codec/envelope.h"
#include "storage/tier/block_level.h"

namespace mnemo {

// An envelope, either as it lay somewhere or made anew.
class EncodedPart {
 public:
  EncodedPart(PinnedBytes as_it_lay, uint8_t form) : pinned_(std::move(as_it_lay)), form_(form) {}
  EncodedPart(std::string made, uint8_t form) : made_(std::move(made)), form_(form) {}

  uint8_t form() const { return form_; }  // StoredForm
  uint64_t size() const { return made_.empty() ? pinned_.size() : made_.size(); }
  // Valid while this lives, and stays where it is.
  std::vector<ByteView> pieces() const {
    return made_.empty() ? pinned_.pieces() : std::vector<ByteView>{AsBytes(made_)};
  }

 private:
  PinnedBytes pinned_;
  std::string made_;
  uint8_t form_;
};

// In which StoredForm an envelope lies: the lossy one, if some section is.
uint8_t FormOfEnvelope(const Envelope& envelope);

// The header of `stored`, checked against what the directory knows of the part.
// Looks at no payload byte. Errors: kDataLoss.
absl::StatusOr<Envelope> CheckedHeader(const DirectoryEntry& entry, const PinnedBytes& stored);

// The envelope `stored` as `level` is to keep it: in the lossy form that its space allows
// there, at L2 and Disk losslessly if that pays, otherwise as it is, unverified then. What is
// lossy stays as it is, or loses planes. Errors: kDataLoss.
absl::StatusOr<EncodedPart> FormFor(StoreCore& core, const DirectoryEntry& entry,
                                    const PinnedBytes& stored, Level level);

// The envelope as L1 keeps it, verified: with every section raw, or, if it is lossy,
// as it is, since decoding makes nothing exact again. Errors: kDataLoss.
absl::StatusOr<EncodedPart> FormForL1(StoreCore& core, const DirectoryEntry& entry,
                                      const PinnedBytes& stored);

// That `stored` is the whole of the part, undamaged. Errors: kDataLoss.
absl::Status VerifyPart(const DirectoryEntry& entry, const PinnedBytes& stored);

// The bytes of sections [first, first + count), which `envelope` has, verified. Errors:
// kDataLoss, those of Store.
absl::StatusOr<PinnedBytes> DecodeSections(StoreCore& core, const DirectoryEntry& entry,
                                           const Envelope& envelope, const PinnedBytes& stored,
                                           uint32_t first, uint32_t count);

// Whether the space's owner asks for more than is left of the part here.
bool IsBelowFloor(const StoreCore& core, const DirectoryEntry& entry, const Envelope& envelope);
// The same of a copy in `form`, by what the directory knows.
bool IsBelowFloor(const StoreCore& core, KeyScope scope, uint8_t form);
// The same of all copies of the part: it is a miss.
bool IsBelowFloor(const StoreCore& core, const DirectoryEntry& entry);

}  // namespace mnemo
