// Which of many things in RAM goes first, where they may be used in turn and not
// all of them fit.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>

namespace mnemo {

// By the time between two uses, as LIRS does (Jiang and Zhang, SIGMETRICS 2002):
// what came last takes a place for good only if it was used before, and that later
// than what was used longest ago among the rest. Otherwise it is on trial: one thing
// at a time, which the next such takes the place of, unless it was used again. Least
// recently used out first would drop each of N things that are used in turn just
// before its next use, if N - 1 fit; so N - 2 of them stay, and the one on trial.
// Not thread-safe. O(log n) a call.
class ReuseOrder {
 public:
  using Key = std::pair<uint64_t, uint64_t>;  // context id, range
  // Uses that are remembered of what is not in RAM.
  static constexpr size_t kRemembered = 16'384;

  // It is used now, and in RAM.
  void Use(const Key& key);
  // What has to go, of all in RAM that `may_go`, where there is no room since
  // `newest` was used; `may_try`: it may be on trial, and does not go at once. None
  // if nothing may go.
  std::optional<Key> Victim(const Key& newest, bool may_try,
                            const std::function<bool(const Key&)>& may_go);
  // It is not in RAM any more; when it was used is remembered.
  void Leave(const Key& key);
  // Nothing is remembered of what belongs to the context.
  void Forget(uint64_t context_id);

 private:
  struct Uses {
    uint64_t last = 0;
    uint64_t before = 0;  // the one before the last; 0: none is known
    bool in_ram = false;
  };
  std::map<Key, Uses> uses_;
  std::map<uint64_t, Key> in_ram_, left_;  // by their last use
  std::optional<Key> on_trial_;            // is in RAM
  uint64_t turn_ = 0;
};

}  // namespace mnemo
