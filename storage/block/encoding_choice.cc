#include "storage/block/encoding_choice.h"

namespace mnemo {
namespace {

// About the last eight tries count.
constexpr float kNewWeight = 0.125f;

}  // namespace

EncodingChoice::Learnt& EncodingChoice::AtLocked(KeyScope scope) {
  const std::pair key(scope.tenant, scope.space);
  if (spaces_.size() >= kMaxSpaces && !spaces_.contains(key)) spaces_.clear();
  return spaces_[key];
}

void EncodingChoice::Forbid(KeyScope scope) {
  MutexLock lock(mutex_);
  AtLocked(scope).forbidden = true;
}

bool EncodingChoice::ShouldTry(KeyScope scope) {
  MutexLock lock(mutex_);
  Learnt& learnt = AtLocked(scope);
  if (learnt.forbidden) return false;
  if (!learnt.measured || learnt.share <= kPays || ++learnt.skipped >= kTryOneOf) {
    learnt.skipped = 0;
    return true;
  }
  return false;
}

void EncodingChoice::Tell(KeyScope scope, uint64_t exact_bytes, uint64_t encoded_bytes) {
  if (exact_bytes == 0) return;
  const float share = static_cast<float>(encoded_bytes) / static_cast<float>(exact_bytes);
  MutexLock lock(mutex_);
  Learnt& learnt = AtLocked(scope);
  learnt.share = learnt.measured ? learnt.share + kNewWeight * (share - learnt.share) : share;
  learnt.measured = true;
}

}  // namespace mnemo
