// Parts that are to be brought into RAM ahead of use, and wait for a thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "storage/base/mutex.h"
#include "storage/block/block_store.h"

namespace mnemo {

struct PrefetchOptions {
  // Behaviour: exact bytes of one tenant that may wait or be under way. At least 1 MiB.
  uint64_t tenant_bytes = uint64_t{1} << 30;
  // Memory: about 150 bytes each. Of one tenant, and of all. 1 to 1,048,576.
  size_t tenant_parts = 16384;
  size_t parts = 65536;
  // Behaviour: how many blocks of a chain follow one that was read from disk; 0: none. At
  // most 1,024.
  uint32_t follow_blocks = 16;

  // Errors: kInvalidArgument, naming field and range.
  absl::Status Validate() const;
};

// Of one origin. Only grow, but for what waits. At rest:
//   asked = dropped + cancelled + sum of outcomes + waiting
struct PrefetchFigures {
  uint64_t asked = 0;      // parts that lay on disk
  uint64_t dropped = 0;    // not taken: too much waits already
  uint64_t cancelled = 0;  // given up before their turn
  // By PrefetchOutcome.
  std::array<uint64_t, kPrefetchOutcomes> outcomes{};
  uint64_t bytes = 0;  // exact, of those that were brought
  uint64_t waiting = 0;
  uint64_t waiting_bytes = 0;
};

// Thread-safe. What is asked for goes before what follows by itself, and takes the place of
// what waits of it where there is no room for both; among those the tenants take turns, and
// within a tenant it is first come first served.
class PrefetchQueue {
 public:
  struct Part {
    PartKey key;
    uint64_t bytes = 0;  // exact
  };
  // One part for one thread: handed to Done when it has ended.
  struct Work {
    Part part;
    PrefetchOrigin origin = PrefetchOrigin::kAsked;
  };

  // `options` are valid. `first_id`: ids are handed out from here on.
  PrefetchQueue(const PrefetchOptions& options, uint64_t first_id)
      : options_(options), next_id_(first_id == 0 ? 1 : first_id) {}
  PrefetchQueue(const PrefetchQueue&) = delete;
  PrefetchQueue& operator=(const PrefetchQueue&) = delete;

  const PrefetchOptions& options() const { return options_; }

  // What follows by itself is taken, and handed out, only while `idle` says so, and nothing
  // waits that was asked for. Before other threads are here; `idle` is called by any thread.
  void FollowOnlyWhile(std::function<bool()> idle) { idle_ = std::move(idle); }

  struct Added {
    uint64_t id = 0;   // 0: nothing was taken
    size_t taken = 0;  // the first so many
  };
  // Takes the first of `parts`, all of one tenant, up to the one for which there is no room.
  // Of what follows by itself, parts that wait already are left out.
  Added Add(std::span<const Part> parts, PrefetchOrigin origin);
  // The tenant's parts of this id that still wait are given up. No-op if there are none.
  void Cancel(uint64_t tenant, uint64_t id);
  // How many parts were not even handed to Add, for it would not have taken them.
  void CountDropped(PrefetchOrigin origin, uint64_t parts);
  // How many parts of this tenant Add would take now if they were asked for, whatever
  // their bytes.
  size_t Room(uint64_t tenant) const;

  // The next part; waits until there is one. None after Stop.
  std::optional<Work> Take();
  void Done(const Work& work, PrefetchOutcome outcome);
  // What waits is given up, and nothing more is taken. Idempotent.
  void Stop();

  std::array<PrefetchFigures, kPrefetchOrigins> figures() const;

 private:
  struct Batch {
    uint64_t id = 0;
    std::deque<Part> parts;
  };
  struct Tenant {
    std::deque<Batch> batches;
    size_t parts = 0;    // that wait
    uint64_t bytes = 0;  // that wait or are under way
  };
  // Of one origin.
  struct Line {
    std::map<uint64_t, Tenant> tenants;  // with something that waits or is under way
    uint64_t last = 0;                   // whose turn it was
    absl::flat_hash_set<uint64_t> keys;  // of kFollowed: checksums of those that wait
    PrefetchFigures figures;
  };
  Line& LineOf(PrefetchOrigin origin) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return lines_[static_cast<size_t>(origin)];
  }
  size_t RoomLocked(uint64_t tenant, PrefetchOrigin origin) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // For parts that are asked for, the tenant's that follow are given up if both do not fit;
  // those of all tenants, if all of them have too many.
  void MakeWayLocked(uint64_t tenant, std::span<const Part> parts)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t BytesLocked(uint64_t tenant) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<Work> TakeAny();
  // It is not under way any more.
  static void LetGoLocked(Line& line, const Work& work);
  std::optional<Work> NextLocked(PrefetchOrigin origin) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveUpLocked(Line& line, Tenant& tenant, const Batch& batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // All that waits.
  void GiveUpLocked(Line& line, Tenant& tenant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveUpLocked(Line& line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  bool Idle() const { return !idle_ || idle_(); }

  const PrefetchOptions options_;
  std::function<bool()> idle_;
  mutable Mutex mutex_;  // innermost
  CondVar added_;
  std::array<Line, kPrefetchOrigins> lines_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_);
  size_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace mnemo
