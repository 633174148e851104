// Brings what lies below L1 into the form that its space asks for: after its policy
// changed, after a group of it was calibrated, after durable puts, and after a start.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "storage/base/mutex.h"
#include "storage/base/units.h"
#include "storage/block/block_store.h"
#include "storage/block/demotion.h"
#include "storage/block/store_core.h"

namespace mnemo {

// Thread-safe; one thread at a time does the work, others return at once.
//
// A space is looked through part by part, in the order of stored keys. Each part is read,
// encoded and put in place of what was there under its gate, by one write of its
// instance: a crash leaves the old form or the new one, and the next start looks again.
// Memory: one part in two forms.
class Reencoder {
 public:
  // What one step looks at and encodes at most, so that movers come round to everything.
  static constexpr size_t kStepParts = 64;
  static constexpr uint64_t kStepBytes = 4 * kMiB;
  // A space that was looked through rests so long.
  static constexpr Nanos kRest = std::chrono::seconds(5);

  Reencoder(StoreCore& core, Demotion& demotion) : core_(core), demotion_(demotion) {}

  // True if more is to do now.
  bool Step();
  // As BlockStore::ReencodingOf.
  Reencoding ProgressOf(KeyScope scope) const;
  // Of all spaces that are being looked through, or are about to be.
  uint64_t PartsLeft() const;

 private:
  struct Look {
    KeyScope scope;
    std::string after;  // stored key that was looked at last
    uint64_t looked_at = 0;
    uint64_t parts = 0;  // that the space had at first
  };

  // The look to go on with.
  std::optional<Look> Begin();
  void End(const Look& look);
  // Adds what was encoded. Held: nothing; takes the part's gate.
  void LookAt(const DirectoryEntry& listed, uint64_t& encoded_bytes);
  // Both held. The copy is replaced, dropped, or left as it is.
  void ReplaceInL2(const DirectoryEntry& entry, uint64_t& encoded_bytes);
  void ReplaceOnDisk(const DirectoryEntry& entry, uint64_t& encoded_bytes);
  void Count(const absl::Status& replaced);

  StoreCore& core_;
  Demotion& demotion_;
  std::atomic<bool> working_{false};  // whose turn it is, if anybody's
  mutable Mutex mutex_;               // innermost
  std::optional<Look> look_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo
