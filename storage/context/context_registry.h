// Which contexts there are. Kept in the store alone: a context that nobody
// uses takes no memory.
#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"
#include "storage/context/context_types.h"
#include "storage/tier/store.h"

namespace mnemo {

// Thread-safe. Borrows both. Errors of all: kDataLoss, and those of Store.
class ContextRegistry {
 public:
  ContextRegistry(Store& store, const Clock& clock) : store_(store), clock_(clock) {}

  // As ContextStore's.
  absl::StatusOr<std::pair<ContextRecord, bool>> Create(uint64_t tenant, const ContextSpec& spec);
  absl::StatusOr<ContextRecord> ById(uint64_t tenant, uint64_t id) const;
  absl::StatusOr<ContextRecord> ByName(uint64_t tenant, const std::string& name) const;
  absl::StatusOr<std::vector<ContextRecord>> List(uint64_t tenant, const Labels& labels,
                                                  const std::string& after, size_t limit) const;
  // As ContextStore's.
  absl::StatusOr<std::vector<ContextRecord>> Sweep(std::string& cursor, size_t limit) const;

  // Takes the context out, and notes in the same batch, durably, that the keys
  // of its `tokens` tokens are still to be erased. Returns whether it was there.
  absl::StatusOr<bool> Remove(const ContextRecord& context, uint64_t tokens);

 private:
  // Creations and removals of one tenant are in order: its lock is held across
  // the store, as the store's own order of a shard is.
  Mutex& LockOf(uint64_t tenant) { return locks_[tenant % locks_.size()]; }

  Store& store_;
  const Clock& clock_;
  std::array<Mutex, 16> locks_;
};

}  // namespace mnemo
