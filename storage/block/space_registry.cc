#include "storage/block/space_registry.h"

#include <fmt/format.h>

#include <random>

#include "storage/base/status_macros.h"
#include "storage/block/space_codecs.h"

namespace mnemo {
namespace {

// Node-wide state has no natural shard: all of it lies in the first.
constexpr uint16_t kStateShard = 0;

StoredKey KeyOf(KeyScope scope) { return StoredKey(kStateShard, KeyKind::kSpace, scope, ""); }

absl::Status UnknownSpace(std::string_view what) {
  return absl::NotFoundError(fmt::format("no space {}", what));
}

}  // namespace

// 0 means "none".
uint64_t SpaceRegistry::RandomId() {
  std::random_device entropy;
  uint64_t id = 0;
  while (id == 0) id = (uint64_t{entropy()} << 32) | entropy();
  return id;
}

absl::StatusOr<std::unique_ptr<SpaceRegistry>> SpaceRegistry::Load(
    Store& state, Clock& clock, std::function<uint64_t()> new_id) {
  std::unique_ptr<SpaceRegistry> registry(new SpaceRegistry(state, clock, std::move(new_id)));
  // All tenants: everything of this kind in the shard.
  std::string begin;
  AppendBig<uint16_t>(begin, kStateShard);
  begin.push_back(static_cast<char>(KeyKind::kSpace));
  absl::Status damage;
  MutexLock lock(registry->mutex_);
  const auto load = [&](const StoredKey&, std::string_view value) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    absl::StatusOr<Space> space = DecodeSpace(AsBytes(value));
    if (!space.ok()) {
      damage = space.status();
      return false;
    }
    auto shared = std::make_shared<const Space>(*std::move(space));
    registry->by_name_[{shared->scope.tenant, shared->spec.name}] = shared;
    registry->by_id_[shared->scope] = shared;
    return true;
  };
  MNEMO_RETURN_IF_ERROR(state.Scan(begin, PrefixEnd(begin), load));
  MNEMO_RETURN_IF_ERROR(damage);
  return registry;
}

SpaceRegistry::SpacePtr SpaceRegistry::FindLocked(const NameKey& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

absl::StatusOr<std::pair<SpaceRegistry::SpacePtr, bool>> SpaceRegistry::Open(uint64_t tenant,
                                                                             const SpaceSpec& spec,
                                                                             bool must_exist) {
  MNEMO_RETURN_IF_ERROR(ValidateSpace(spec));
  MutexLock change(change_);
  const NameKey name{tenant, spec.name};
  SpacePtr present;
  {
    MutexLock lock(mutex_);
    present = FindLocked(name);
  }
  if (present) {
    const std::string difference = FirstDifference(present->spec, spec);
    if (difference.empty()) return std::pair(std::move(present), false);
    return absl::FailedPreconditionError(
        fmt::format("space '{}' is there and differs: {}", spec.name, difference));
  }
  if (must_exist) return UnknownSpace(fmt::format("named '{}'", spec.name));
  auto made = std::make_shared<const Space>(
      Space{.scope = {tenant, new_id_()}, .created = clock_.Wall(), .spec = spec});
  MNEMO_RETURN_IF_ERROR(Persist(*made, OperationKind::kPutSpace));
  MutexLock lock(mutex_);
  by_name_[name] = made;
  by_id_[made->scope] = made;
  return std::pair(SpacePtr(made), true);
}

absl::Status SpaceRegistry::Persist(const Space& space, OperationKind kind) {
  StoreBatch batch;
  const StoredKey key = KeyOf(space.scope);
  std::string record = EncodeSpace(space);
  Operation operation{.shard = kStateShard, .kind = kind, .key = key.bytes(), .payload = record};
  if (kind == OperationKind::kDeleteSpace) {
    operation.payload.clear();
    batch.Delete(key);
    const std::string calibrations = CalibrationPrefix(space.scope).bytes();
    MNEMO_RETURN_IF_ERROR(state_.Scan(calibrations, PrefixEnd(calibrations),
                                      [&](const StoredKey& found, std::string_view) {
                                        batch.Delete(found);
                                        return true;
                                      }));
  } else {
    batch.Put(key, std::move(record));
  }
  batch.Log(std::move(operation));
  return state_.Apply(batch, /*sync=*/true);
}

absl::StatusOr<SpaceRegistry::SpacePtr> SpaceRegistry::ById(uint64_t tenant, uint64_t space) const {
  MutexLock lock(mutex_);
  const auto found = by_id_.find({tenant, space});
  if (found == by_id_.end()) return UnknownSpace(fmt::format("with id {:016x}", space));
  return found->second;
}

absl::StatusOr<SpaceRegistry::SpacePtr> SpaceRegistry::ByName(uint64_t tenant,
                                                              const std::string& name) const {
  MutexLock lock(mutex_);
  SpacePtr found = FindLocked({tenant, name});
  if (!found) return UnknownSpace(fmt::format("named '{}'", name));
  return found;
}

std::vector<SpaceRegistry::SpacePtr> SpaceRegistry::List(uint64_t tenant, const std::string& after,
                                                         size_t limit) const {
  std::vector<SpacePtr> page;
  MutexLock lock(mutex_);
  for (auto it = by_name_.upper_bound({tenant, after});
       it != by_name_.end() && it->first.first == tenant && page.size() < limit; ++it) {
    page.push_back(it->second);
  }
  return page;
}

absl::StatusOr<SpaceRegistry::SpacePtr> SpaceRegistry::UpdatePolicy(uint64_t tenant, uint64_t space,
                                                                    const SpacePolicy& policy,
                                                                    const Keep& keep) {
  MutexLock change(change_);
  MNEMO_ASSIGN_OR_RETURN(const SpacePtr present, ById(tenant, space));
  Space updated = *present;
  updated.spec.policy = policy;
  const SpacePolicy& before = present->spec.policy;
  if (keep.floor) updated.spec.policy.floor_bits_per_value = before.floor_bits_per_value;
  if (keep.levels) updated.spec.policy.level_bits = before.level_bits;
  MNEMO_RETURN_IF_ERROR(ValidateSpace(updated.spec));
  MNEMO_RETURN_IF_ERROR(Persist(updated, OperationKind::kPutSpace));
  auto shared = std::make_shared<const Space>(std::move(updated));
  MutexLock lock(mutex_);
  by_name_[{tenant, shared->spec.name}] = shared;
  by_id_[shared->scope] = shared;
  return SpacePtr(shared);
}

absl::Status SpaceRegistry::Remove(uint64_t tenant, uint64_t space) {
  MutexLock change(change_);
  const absl::StatusOr<SpacePtr> present = ById(tenant, space);
  if (!present.ok()) return absl::OkStatus();
  MNEMO_RETURN_IF_ERROR(Persist(**present, OperationKind::kDeleteSpace));
  MutexLock lock(mutex_);
  by_name_.erase({tenant, (*present)->spec.name});
  by_id_.erase((*present)->scope);
  return absl::OkStatus();
}

size_t SpaceRegistry::size() const {
  MutexLock lock(mutex_);
  return by_id_.size();
}

}  // namespace mnemo
