// How often runs of tokens were read lately, in RAM.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"
#include "storage/tier/stored_key.h"

namespace mnemo {

// Thread-safe. Forgets with the process, and what is used least when it is
// full: at most kMaxRuns runs of 2,048 tokens, 64 bytes each.
class RunUses {
 public:
  static constexpr size_t kMaxRuns = 65'536;

  struct Use {
    uint32_t uses = 0;
    MonoTime last;
  };

  explicit RunUses(const Clock& clock) : clock_(clock) {}

  void Note(KeyScope scope, uint64_t run);
  std::optional<Use> Find(KeyScope scope, uint64_t run) const;
  // After a demotion: uses at another level do not count.
  void Forget(KeyScope scope, uint64_t run);

  struct UsedRun {
    KeyScope scope;
    uint64_t run = 0;
    uint32_t uses = 0;
  };
  // All with at least `uses` uses, in no order. O(size()).
  std::vector<UsedRun> UsedAtLeast(uint32_t uses) const;
  // Grows with every use.
  uint64_t noted() const { return noted_.load(std::memory_order_relaxed); }
  size_t size() const;

 private:
  static constexpr size_t kParts = 16;
  using Key = std::pair<std::pair<uint64_t, uint64_t>, uint64_t>;  // tenant, context; run
  struct Part {
    mutable Mutex mutex;
    absl::flat_hash_map<Key, Use> uses ABSL_GUARDED_BY(mutex);
  };
  static Key KeyOf(KeyScope scope, uint64_t run) { return {{scope.tenant, scope.space}, run}; }
  Part& PartOf(const Key& key) { return parts_[absl::HashOf(key) % kParts]; }
  const Part& PartOf(const Key& key) const { return parts_[absl::HashOf(key) % kParts]; }

  const Clock& clock_;
  std::atomic<uint64_t> noted_{0};
  std::array<Part, kParts> parts_;
};

}  // namespace mnemo
