// The spaces of all tenants: durable, and cached in RAM.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"
#include "storage/block/space.h"
#include "storage/tier/store.h"

namespace mnemo {

// Thread-safe. A Space handed out is immutable; policy changes make a new one.
class SpaceRegistry {
 public:
  using SpacePtr = std::shared_ptr<const Space>;  // docs/decisions: readers outlive a delete

  // Loads all spaces. `new_id` gives what a space is called, never twice and never 0: 64
  // random bits, but where a test has to be the same each time. Errors: kDataLoss.
  static absl::StatusOr<std::unique_ptr<SpaceRegistry>> Load(
      Store& state, Clock& clock, std::function<uint64_t()> new_id = RandomId);

  // Gets or creates; one winner among any number of callers. Errors:
  // kInvalidArgument, kFailedPrecondition (a field differs; both values are
  // named), kNotFound (`must_exist`), and those of Store.
  absl::StatusOr<std::pair<SpacePtr, bool>> Open(uint64_t tenant, const SpaceSpec& spec,
                                                 bool must_exist);
  // Errors: kNotFound.
  absl::StatusOr<SpacePtr> ById(uint64_t tenant, uint64_t space) const;
  absl::StatusOr<SpacePtr> ByName(uint64_t tenant, const std::string& name) const;
  // By name, after `after` (exclusive), at most `limit`.
  std::vector<SpacePtr> List(uint64_t tenant, const std::string& after, size_t limit) const;
  // What is kept stays as it is, whatever `policy` says. Errors: kNotFound,
  // kInvalidArgument, those of Store.
  struct Keep {
    bool floor = false;
    bool levels = false;
  };
  absl::StatusOr<SpacePtr> UpdatePolicy(uint64_t tenant, uint64_t space, const SpacePolicy& policy,
                                        const Keep& keep);
  absl::StatusOr<SpacePtr> UpdatePolicy(uint64_t tenant, uint64_t space,
                                        const SpacePolicy& policy) {
    return UpdatePolicy(tenant, space, policy, Keep());
  }
  // Ok if it is not there.
  absl::Status Remove(uint64_t tenant, uint64_t space);
  size_t size() const;

 private:
  using NameKey = std::pair<uint64_t, std::string>;  // tenant, name

  SpaceRegistry(Store& state, Clock& clock, std::function<uint64_t()> new_id)
      : state_(state), clock_(clock), new_id_(std::move(new_id)) {}
  static uint64_t RandomId();
  absl::Status Persist(const Space& space, OperationKind kind)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_);
  SpacePtr FindLocked(const NameKey& name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Store& state_;
  Clock& clock_;
  const std::function<uint64_t()> new_id_;  // under change_
  // Serialises changes, and is held across the store: taken before mutex_,
  // which readers share and nobody holds across anything.
  Mutex change_;
  mutable Mutex mutex_ ABSL_ACQUIRED_AFTER(change_);
  std::map<NameKey, SpacePtr> by_name_ ABSL_GUARDED_BY(mutex_);
  std::map<KeyScope, SpacePtr> by_id_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo
