// Who has been told WANT and has not begun to write yet.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Thread-safe. A reservation is of one tenant; its parts are stored keys.
// Memory is bounded by kMaxParts over all reservations.
class Reservations {
 public:
  static constexpr size_t kMaxParts = 262144;

  explicit Reservations(Clock& clock) : clock_(clock) {}

  // Whether somebody other than the holder of `own` has reserved the part.
  bool HeldByOther(const std::string& part, uint64_t own) const;
  // Reserves those of `parts` that nobody holds; `taken[i]` says which. Returns the
  // id, or 0 if none was taken. Errors: kResourceExhausted (kMaxParts).
  absl::StatusOr<uint64_t> Take(uint64_t tenant, const std::vector<std::string>& parts,
                                Nanos duration, std::vector<bool>& taken);
  // Whether `id` is alive and of this tenant.
  bool Owns(uint64_t id, uint64_t tenant) const;
  // Ends the reservation of one part, and with the last of them all of it.
  void Release(uint64_t id, const std::string& part);
  void Expire();
  bool empty() const;

 private:
  struct Reservation {
    uint64_t tenant = 0;
    MonoTime ends;
    std::unordered_set<std::string> parts;
  };
  void ExpireLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetLocked(uint64_t id, const std::string& part) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AliveLocked(uint64_t id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Clock& clock_;
  mutable Mutex mutex_;  // innermost
  std::unordered_map<uint64_t, Reservation> reservations_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, uint64_t> holders_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo
