#include "server/engine/reuse_order.h"

namespace mnemo {

void ReuseOrder::Use(const Key& key) {
  Uses& uses = uses_[key];
  (uses.in_ram ? in_ram_ : left_).erase(uses.last);
  uses = {.last = ++turn_, .before = uses.last, .in_ram = true};
  in_ram_.emplace(uses.last, key);
}

std::optional<ReuseOrder::Key> ReuseOrder::Victim(
    const Key& newest, const std::function<bool(const Key&)>& may_go) const {
  const auto known = uses_.find(newest);
  const bool in_ram = known != uses_.end() && known->second.in_ram;
  for (const auto& [last, key] : in_ram_) {
    if (key == newest || !may_go(key)) continue;
    if (in_ram && known->second.before < last) break;
    return key;
  }
  if (in_ram && may_go(newest)) return newest;
  return std::nullopt;
}

void ReuseOrder::Leave(const Key& key) {
  const auto found = uses_.find(key);
  if (found == uses_.end() || !found->second.in_ram) return;
  found->second.in_ram = false;
  in_ram_.erase(found->second.last);
  left_.emplace(found->second.last, key);
  if (left_.size() <= kRemembered) return;
  uses_.erase(left_.begin()->second);
  left_.erase(left_.begin());
}

void ReuseOrder::Forget(uint64_t context_id) {
  auto at = uses_.lower_bound({context_id, 0});
  while (at != uses_.end() && at->first.first == context_id) {
    (at->second.in_ram ? in_ram_ : left_).erase(at->second.last);
    at = uses_.erase(at);
  }
}

}  // namespace mnemo
