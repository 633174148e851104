// Which contexts changed since workers looked at them.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "storage/base/mutex.h"
#include "storage/tier/stored_key.h"

namespace mnemo {

// Thread-safe. Remembers at most kMaxContexts; when there are more, only that
// there were, and whoever asks looks at all. Forgets with the process.
class ChangedContexts {
 public:
  static constexpr size_t kMaxContexts = 4096;  // 24 bytes each

  void Note(KeyScope scope);

  struct Changes {
    std::vector<KeyScope> contexts;  // each once, in no order
    bool all = false;                // more than are known by name
  };
  // Those since the last call. For one worker: what it took nobody else hears of.
  Changes Take();

 private:
  struct Hash {
    size_t operator()(KeyScope scope) const { return absl::HashOf(scope.tenant, scope.space); }
  };
  Mutex mutex_;  // innermost
  absl::flat_hash_set<KeyScope, Hash> contexts_ ABSL_GUARDED_BY(mutex_);
  bool all_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mnemo
