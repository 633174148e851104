#include "storage/block/entry_gate.h"

namespace mnemo {

EntryGate::Hold EntryGate::Enter(EntryId id) {
  Stripe& stripe = StripeOf(id);
  MutexLock lock(stripe.mutex);
  while (!stripe.held.insert(id).second) stripe.left.Wait(stripe.mutex);
  return Hold(this, id);
}

EntryGate::Hold EntryGate::TryEnter(EntryId id) {
  Stripe& stripe = StripeOf(id);
  MutexLock lock(stripe.mutex);
  return stripe.held.insert(id).second ? Hold(this, id) : Hold();
}

void EntryGate::Leave(EntryId id) {
  Stripe& stripe = StripeOf(id);
  MutexLock lock(stripe.mutex);
  stripe.held.erase(id);
  stripe.left.SignalAll();
}

}  // namespace mnemo
