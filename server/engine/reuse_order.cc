#include "server/engine/reuse_order.h"

#include <utility>

namespace mnemo {

void ReuseOrder::Use(const Key& key) {
  Uses& uses = uses_[key];
  if (on_trial_ == key) on_trial_.reset();
  (uses.in_ram ? in_ram_ : left_).erase(uses.last);
  uses = {.last = ++turn_, .before = uses.last, .in_ram = true};
  in_ram_.emplace(uses.last, key);
}

std::optional<ReuseOrder::Key> ReuseOrder::Victim(const Key& newest, bool may_try,
                                                  const std::function<bool(const Key&)>& may_go) {
  const auto known = uses_.find(newest);
  const bool in_ram = known != uses_.end() && known->second.in_ram;
  std::optional<Key> oldest;
  bool unproven = false;
  for (const auto& [last, key] : in_ram_) {
    if (key == newest || !may_go(key)) continue;
    oldest = key;
    unproven = in_ram && known->second.before < last;
    break;
  }
  if (!oldest || (unproven && !may_try)) {
    if (in_ram && may_go(newest)) return newest;  // a trial goes on
    return std::nullopt;
  }
  if (on_trial_ && *on_trial_ != newest && may_go(*on_trial_)) {
    oldest = std::exchange(on_trial_, std::nullopt);
  }
  if (unproven) on_trial_ = newest;
  return oldest;
}

void ReuseOrder::Leave(const Key& key) {
  const auto found = uses_.find(key);
  if (found == uses_.end() || !found->second.in_ram) return;
  found->second.in_ram = false;
  if (on_trial_ == key) on_trial_.reset();
  in_ram_.erase(found->second.last);
  left_.emplace(found->second.last, key);
  if (left_.size() <= kRemembered) return;
  uses_.erase(left_.begin()->second);
  left_.erase(left_.begin());
}

void ReuseOrder::Forget(uint64_t context_id) {
  if (on_trial_ && on_trial_->first == context_id) on_trial_.reset();
  auto at = uses_.lower_bound({context_id, 0});
  while (at != uses_.end() && at->first.first == context_id) {
    (at->second.in_ram ? in_ram_ : left_).erase(at->second.last);
    at = uses_.erase(at);
  }
}

}  // namespace mnemo
