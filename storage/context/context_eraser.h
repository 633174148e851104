// Gives back the space of deleted contexts, in steps.
#pragma once

#include "absl/status/statusor.h"
#include "storage/context/context_record.h"
#include "storage/context/context_stores.h"

namespace mnemo {

// Thread-safe; steps at once from several threads do the same work twice.
// Everything it knows is in the store: killed at any moment, it goes on.
class ContextEraser {
 public:
  // Borrows the stores.
  explicit ContextEraser(const ContextStores& stores) : stores_(stores) {}

  // Erases at most kKeysPerStep keys of deleted contexts. Returns whether more
  // is left to do. Errors: those of Store, kDataLoss.
  absl::StatusOr<bool> Step();

  static constexpr size_t kKeysPerStep = 1024;

 private:
  absl::StatusOr<size_t> EraseSome(KeyScope scope, const ErasedContext& erased, size_t limit);

  const ContextStores stores_;
};

}  // namespace mnemo
