// Who may change an entry: one at a time.
//
// A change of a part touches the directory, a policy's queue, one or two
// levels and the events, and some of that is I/O, which no lock may span. So
// whoever changes a part holds its gate instead: the order of gates is the
// order of its changes and of its events. Readers need none.
//
// A thread that waits for a gate holds no other; one that holds several took
// all but the first with Try.
#pragma once

#include <array>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "storage/base/level.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Thread-safe. Memory: by gates held, not by entries.
class EntryGate {
 public:
  // Ends its hold when it goes. Movable.
  class Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)), id_(other.id_) {}
    Hold& operator=(Hold&& other) noexcept {
      if (this != &other) {
        End();
        gate_ = std::exchange(other.gate_, nullptr);
        id_ = other.id_;
      }
      return *this;
    }
    ~Hold() { End(); }
    explicit operator bool() const { return gate_ != nullptr; }
    void End() {
      if (gate_ != nullptr) std::exchange(gate_, nullptr)->Leave(id_);
    }

   private:
    friend class EntryGate;
    Hold(EntryGate* gate, EntryId id) : gate_(gate), id_(id) {}
    EntryGate* gate_ = nullptr;
    EntryId id_ = kNoEntry;
  };

  // Waits until nobody holds it.
  Hold Enter(EntryId id);
  // An empty hold if somebody has it.
  Hold TryEnter(EntryId id);

 private:
  struct Stripe {
    Mutex mutex;  // innermost
    CondVar left;
    absl::flat_hash_set<EntryId> held ABSL_GUARDED_BY(mutex);
  };
  // Ids end in a shard's slot number, so that neighbours spread.
  Stripe& StripeOf(EntryId id) { return stripes_[(id ^ id >> 24) % stripes_.size()]; }
  void Leave(EntryId id);

  std::array<Stripe, 64> stripes_;
};

}  // namespace mnemo
