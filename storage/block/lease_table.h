// Leases: promises, to an engine that was told of a hit, that the parts stay at
// some level until it has read them.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"
#include "storage/block/directory.h"

namespace mnemo {

using LeaseId = uint64_t;  // 0: none

// What ended, so that the caller may release holds of its policies.
struct EndedLeases {
  uint64_t count = 0;
  std::vector<EntryId> unleased;    // entries that lost their last lease
  std::vector<EntryId> new_leaves;  // as of Directory::Recycle
};

// Thread-safe. Leases do not survive a restart. The bytes of a lease count
// against its tenant once for every lease that has them.
class LeaseTable {
 public:
  static constexpr Nanos kMaxDuration = std::chrono::seconds(60);
  static constexpr size_t kMaxParts = 1 << 20;  // of one lease

  // Both outlive the table. `first_id` should be random, so that an id of an
  // earlier run means nothing.
  LeaseTable(Directory& directory, const Clock& clock, LeaseId first_id);

  // Leases all of `parts` or none. Errors: kInvalidArgument (a duration outside
  // (0, 60 s], no parts, or over kMaxParts), kNotFound (a part is not present
  // any more), kResourceExhausted (more than `tenant_limit_bytes`).
  absl::StatusOr<LeaseId> Grant(uint64_t tenant, std::span<const EntryId> parts, Nanos duration,
                                uint64_t tenant_limit_bytes);
  // From now on. Errors: kNotFound (ended, or another tenant's),
  // kInvalidArgument (duration).
  absl::Status Renew(uint64_t tenant, LeaseId lease, Nanos duration);
  // Errors: kNotFound.
  absl::StatusOr<EndedLeases> Release(uint64_t tenant, LeaseId lease);
  // Ends those whose time is over, at most `limit`, earliest first.
  EndedLeases EndExpired(size_t limit);

  uint64_t leases() const;
  uint64_t TenantBytes(uint64_t tenant) const;

 private:
  struct Lease {
    uint64_t tenant = 0;
    uint64_t bytes = 0;
    MonoTime ends;
    std::vector<EntryId> parts;
  };

  Lease TakeLocked(LeaseId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EraseEnd(MonoTime ends, LeaseId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void Append(EndedLeases& to, const EndedLeases& more);
  // Without the lock: takes the shards' locks of the directory.
  void DropParts(const Lease& lease, EndedLeases& ended);

  Directory& directory_;
  const Clock& clock_;
  mutable Mutex mutex_;  // before the directory's locks; never held across them
  LeaseId next_id_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<LeaseId, Lease> leases_ ABSL_GUARDED_BY(mutex_);
  // What refused Grants had leased for a moment; handed out by EndExpired.
  EndedLeases refused_ ABSL_GUARDED_BY(mutex_);
  std::multimap<MonoTime, LeaseId> by_end_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, uint64_t> tenant_bytes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo
