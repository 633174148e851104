// The seam of the eviction policies: who leaves a level first.
//
// Deterministic, without I/O, clock or lock; the caller guards it. What all of
// them uphold, whatever the order they choose:
//
// - An entry with a child resident at the same level is never a victim, so a
//   chain leaves from its leaf, and an ancestor does not go before a resident
//   descendant that was used no later. An entry that comes up while it has such
//   a child is parked, out of the scan, until the last child goes; nothing is
//   scanned twice because of it. One exception: blocks that left their window
//   go first, since no match needs them, whatever still hangs on them.
// - A victim is handed out once, and is then held, out of the scan, until it is
//   removed or released: leased and pinned entries cost nothing while held.
//
// All operations are O(1), amortised for Victim.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/base/level.h"
#include "storage/policy/entry_links.h"

namespace mnemo {

enum class PolicyKind : uint8_t { kLru, kSieve, kS3Fifo };
// "lru", "sieve", "s3fifo". Errors: kInvalidArgument, naming what is allowed.
absl::StatusOr<PolicyKind> ParsePolicyKind(std::string_view name);
std::string_view PolicyName(PolicyKind kind);

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  // `id` is resident at this level now; a no-op if it was. `parent` may be
  // kNoEntry, and need not be resident here (yet). `bytes` is what leaving
  // frees. `fingerprint`: a hash of the entry's name, by which a policy
  // recognises what it evicted not long ago.
  virtual void Insert(EntryId id, EntryId parent, uint64_t bytes, uint64_t fingerprint) = 0;
  // `id` is not resident here any more; a no-op if it was not. With `evicted`
  // it left for want of room, and the policy may remember its fingerprint.
  virtual void Remove(EntryId id, bool evicted, uint64_t fingerprint) = 0;
  // A use. Of a chain, the caller touches the whole prefix, root first. Entries
  // that are not resident are ignored.
  virtual void Touch(EntryId id) = 0;
  // Who should leave next, held from now on; none if all are held or have
  // children here.
  virtual std::optional<EntryId> Victim() = 0;
  // A held entry takes part again. A no-op for others.
  virtual void Release(EntryId id) = 0;
  // No match needs this entry any more: it goes before all others, even with
  // children. A later Touch takes that back.
  virtual void MarkLeftWindow(EntryId id) = 0;

  virtual uint64_t entries() const = 0;
  // Bookkeeping beyond the links.
  virtual uint64_t MemoryBytes() const = 0;
};

// `level` says which of the links the policy uses: L1 and L2 share one set, L3
// and Disk the other; an entry is in at most one policy of each set. `links`
// outlives the policy.
std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(PolicyKind kind, Level level,
                                                   EntryLinkTable& links);

}  // namespace mnemo
