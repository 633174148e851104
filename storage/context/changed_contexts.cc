#include "storage/context/changed_contexts.h"

#include <utility>

namespace mnemo {

void ChangedContexts::Note(KeyScope scope) {
  MutexLock lock(mutex_);
  if (all_) return;
  contexts_.insert(scope);
  if (contexts_.size() <= kMaxContexts) return;
  contexts_.clear();
  all_ = true;
}

ChangedContexts::Changes ChangedContexts::Take() {
  absl::flat_hash_set<KeyScope, Hash> taken;
  Changes changes;
  {
    MutexLock lock(mutex_);
    taken.swap(contexts_);
    std::swap(changes.all, all_);
  }
  changes.contexts.assign(taken.begin(), taken.end());
  return changes;
}

}  // namespace mnemo
