#include "storage/context/run_uses.h"

namespace mnemo {

void RunUses::Note(KeyScope scope, uint64_t run) {
  const Key key = KeyOf(scope, run);
  Part& part = PartOf(key);
  MutexLock lock(part.mutex);
  // Ageing: each halving drops what was used once since the one before.
  while (part.uses.size() >= kMaxRuns / kParts && !part.uses.contains(key)) {
    absl::erase_if(part.uses, [](auto& entry) { return (entry.second.uses /= 2) == 0; });
  }
  Use& use = part.uses[key];
  ++use.uses;
  use.last = clock_.Mono();
  noted_.fetch_add(1, std::memory_order_relaxed);
}

std::optional<RunUses::Use> RunUses::Find(KeyScope scope, uint64_t run) const {
  const Key key = KeyOf(scope, run);
  const Part& part = PartOf(key);
  MutexLock lock(part.mutex);
  const auto found = part.uses.find(key);
  if (found == part.uses.end()) return std::nullopt;
  return found->second;
}

void RunUses::Forget(KeyScope scope, uint64_t run) {
  const Key key = KeyOf(scope, run);
  Part& part = PartOf(key);
  MutexLock lock(part.mutex);
  part.uses.erase(key);
}

std::vector<RunUses::UsedRun> RunUses::UsedAtLeast(uint32_t uses) const {
  std::vector<UsedRun> found;
  for (const Part& part : parts_) {
    MutexLock lock(part.mutex);
    for (const auto& [key, use] : part.uses) {
      if (use.uses < uses) continue;
      found.push_back({.scope = {.tenant = key.first.first, .space = key.first.second},
                       .run = key.second,
                       .uses = use.uses});
    }
  }
  return found;
}

size_t RunUses::size() const {
  size_t size = 0;
  for (const Part& part : parts_) {
    MutexLock lock(part.mutex);
    size += part.uses.size();
  }
  return size;
}

}  // namespace mnemo
