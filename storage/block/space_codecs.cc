#include "storage/block/space_codecs.h"

#include <fmt/format.h>

#include <string>

#include "storage/base/status_macros.h"
#include "storage/tier/stored_key.h"

namespace mnemo {
namespace {

// With the records of spaces, which go together with theirs.
constexpr uint16_t kStateShard = 0;

StoredKey KeyOf(KeyScope scope, uint8_t group, const Calibration& calibration) {
  std::string suffix(1, static_cast<char>(group));
  AppendBig<uint32_t>(suffix, calibration.id());
  return StoredKey(kStateShard, KeyKind::kCalibration, scope, suffix);
}

// How positions turned the group's keys, where codecs can take them off.
LayerRope RopeOf(const Group& group) {
  const bool whole = group.rope && group.rope->rotary_dimensions == group.k_dimension &&
                     group.k_dimension % 2 == 0 && group.rope->scaling_kind.empty() &&
                     group.rope->theta >= 1 && group.rope->theta <= 1e12;
  if (!whole || group.rope->pairing == RopePairing::kUnknown) return {};
  const bool half = group.rope->pairing == RopePairing::kHalf;
  return {.style = half ? RopeStyle::kHalf : RopeStyle::kInterleaved, .theta = group.rope->theta};
}

CalibrationGeometry GeometryOfGroup(const Group& group) {
  return {.layers = group.layers,
          .heads = group.kv_heads,
          .k_dimension = group.k_dimension,
          .v_dimension = group.v_dimension,
          .ropes = std::vector<LayerRope>(group.layers, RopeOf(group))};
}

uint64_t ChannelsOf(const Group& group) {
  return uint64_t{group.layers} * group.kv_heads * (group.k_dimension + group.v_dimension);
}

}  // namespace

StoredKey CalibrationPrefix(KeyScope scope) {
  return StoredKey(kStateShard, KeyKind::kCalibration, scope, "");
}

absl::StatusOr<SpaceCodecs::Known> SpaceCodecs::Load(KeyScope scope) {
  {
    MutexLock lock(mutex_);
    if (const auto known = known_.find(scope); known != known_.end()) return known->second;
  }
  Known loaded;
  auto set = std::make_shared<CalibrationSet>();
  absl::Status damage;
  const std::string prefix = CalibrationPrefix(scope).bytes();
  MNEMO_RETURN_IF_ERROR(
      state_.Scan(prefix, PrefixEnd(prefix), [&](const StoredKey& key, std::string_view value) {
        auto calibration = Calibration::Parse(AsBytes(value));
        damage = calibration.status();
        if (!damage.ok() || key.suffix().empty()) return false;
        set->Add(*calibration);
        loaded.groups[static_cast<uint8_t>(key.suffix()[0])] = {*std::move(calibration)};
        return true;
      }));
  MNEMO_RETURN_IF_ERROR(damage);
  loaded.set = std::move(set);
  MutexLock lock(mutex_);
  // Whoever came first may have learnt more since.
  return known_.try_emplace(scope, std::move(loaded)).first->second;
}

absl::StatusOr<std::shared_ptr<const CalibrationSet>> SpaceCodecs::CalibrationsOf(KeyScope scope) {
  MNEMO_ASSIGN_OR_RETURN(Known known, Load(scope));
  return std::move(known.set);
}

absl::StatusOr<std::optional<SpaceCodecs::GroupCalibration>> SpaceCodecs::OfGroup(KeyScope scope,
                                                                                  uint8_t group) {
  MNEMO_ASSIGN_OR_RETURN(const Known known, Load(scope));
  const auto found = known.groups.find(group);
  if (found == known.groups.end()) return std::nullopt;
  return found->second;
}

absl::StatusOr<std::optional<CalibrationFit>> SpaceCodecs::Add(const Space& space, uint8_t group,
                                                               std::span<const TensorShape> tensors,
                                                               const Section& section) {
  const Group& described = space.spec.groups[group];
  MutexLock lock(learning_);
  if (IsLearnt(space.scope, group)) return std::nullopt;
  auto [found, fresh] = learners_.try_emplace({space.scope, group});
  Learner& learner = found->second;
  if (fresh) {
    learner.channels = ChannelsOf(described);
    if (learning_channels_ + learner.channels > kMostLearningChannels) {
      learners_.erase(found);
      return std::nullopt;
    }
    absl::StatusOr<CalibrationFit> fit = CalibrationFit::Create(GeometryOfGroup(described));
    if (!fit.ok()) {
      learners_.erase(found);
      return fit.status();
    }
    learner.fit = *std::move(fit);
    learning_channels_ += learner.channels;
  }
  if (!learner.fit) return std::nullopt;
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    MNEMO_ASSIGN_OR_RETURN(const ByteView exact, section(i));
    const absl::Status added = learner.fit->Add(tensors[i], exact);
    // A section that is not finite is no example; it will stay exact itself.
    if (!added.ok() && !absl::IsOutOfRange(added)) return added;
  }
  learner.tokens += tensors[0].tokens;
  const uint64_t parts = uint64_t{described.tensor_parallel_size} * described.pipeline_size();
  if (learner.tokens < kTokensToLearn * parts) return std::nullopt;
  std::optional<CalibrationFit> enough = std::move(learner.fit);
  learner.fit.reset();
  return enough;
}

absl::Status SpaceCodecs::Learn(const Space& space, uint8_t group,
                                std::span<const TensorShape> tensors, const Section& section) {
  if (ChannelsOf(space.spec.groups[group]) > kMaxChannels) {
    Publish(space.scope, group, nullptr);
    return absl::OkStatus();
  }
  MNEMO_ASSIGN_OR_RETURN(const std::optional<CalibrationFit> fit,
                         Add(space, group, tensors, section));
  if (!fit) return absl::OkStatus();
  absl::StatusOr<std::shared_ptr<const Calibration>> calibration = fit->Finish();
  // What a restart could not read is not used: keys at the bound may be beyond it once
  // their positions are off.
  if (calibration.ok()) calibration = Calibration::Parse(AsBytes((*calibration)->Serialize()));
  absl::Status persisted;
  if (calibration.ok()) persisted = Persist(space.scope, group, **calibration);
  if (persisted.ok()) {
    // Where a layer or head was hardly ever seen, the group does without.
    Publish(space.scope, group, calibration.ok() ? *std::move(calibration) : nullptr);
  }
  MutexLock lock(learning_);
  EraseLearners({space.scope, group}, {space.scope, group});
  return persisted;
}

absl::Status SpaceCodecs::Persist(KeyScope scope, uint8_t group, const Calibration& calibration) {
  StoreBatch batch;
  const StoredKey key = KeyOf(scope, group, calibration);
  const std::string bytes = calibration.Serialize();
  batch.Put(key, bytes);
  batch.Log({.shard = kStateShard,
             .kind = OperationKind::kPutCalibration,
             .key = key.bytes(),
             .payload = bytes});
  return state_.Apply(batch, /*sync=*/true);
}

void SpaceCodecs::Publish(KeyScope scope, uint8_t group,
                          std::shared_ptr<const Calibration> calibration) {
  MutexLock lock(mutex_);
  const auto known = known_.find(scope);
  if (known == known_.end()) return;  // forgotten meanwhile
  if (calibration != nullptr) {
    auto set = std::make_shared<CalibrationSet>(*known->second.set);
    set->Add(calibration);
    known->second.set = std::move(set);
  }
  known->second.groups[group] = {std::move(calibration)};
  // Its parts before this one stayed exact.
  changed_.insert(scope);
}

void SpaceCodecs::Forget(KeyScope scope) {
  {
    MutexLock lock(mutex_);
    known_.erase(scope);
    changed_.erase(scope);
    resting_.erase(scope);
  }
  MutexLock lock(learning_);
  EraseLearners({scope, 0}, {scope, 0xff});
}

absl::Status SpaceCodecs::EraseLeftOvers(KeyScope scope) {
  if (Find(scope) != nullptr) return absl::OkStatus();
  Forget(scope);
  StoreBatch batch;
  const std::string prefix = CalibrationPrefix(scope).bytes();
  MNEMO_RETURN_IF_ERROR(
      state_.Scan(prefix, PrefixEnd(prefix), [&](const StoredKey& found, std::string_view) {
        batch.Delete(found);
        return true;
      }));
  if (batch.writes().empty()) return absl::OkStatus();
  batch.Log({.shard = kStateShard, .kind = OperationKind::kDeleteSpace, .key = prefix});
  return state_.Apply(batch, /*sync=*/true);
}

void SpaceCodecs::EraseLearners(const GroupKey& first, const GroupKey& last) {
  auto at = learners_.lower_bound(first);
  while (at != learners_.end() && at->first <= last) {
    learning_channels_ -= at->second.channels;
    at = learners_.erase(at);
  }
}

bool SpaceCodecs::IsLearnt(KeyScope scope, uint8_t group) const {
  MutexLock lock(mutex_);
  const auto known = known_.find(scope);
  return known != known_.end() && known->second.groups.contains(group);
}

void SpaceCodecs::Changed(KeyScope scope) {
  MutexLock lock(mutex_);
  changed_.insert(scope);
}

bool SpaceCodecs::IsChanged(KeyScope scope) const {
  MutexLock lock(mutex_);
  return changed_.contains(scope);
}

std::vector<KeyScope> SpaceCodecs::AllChanged() const {
  MutexLock lock(mutex_);
  return {changed_.begin(), changed_.end()};
}

std::optional<KeyScope> SpaceCodecs::NextChanged(MonoTime now) {
  MutexLock lock(mutex_);
  std::erase_if(resting_, [&](const auto& rest) { return rest.second <= now; });
  for (const KeyScope& scope : changed_) {
    if (resting_.contains(scope)) continue;
    const KeyScope next = scope;
    changed_.erase(next);
    return next;
  }
  return std::nullopt;
}

void SpaceCodecs::Rest(KeyScope scope, MonoTime until) {
  MutexLock lock(mutex_);
  resting_[scope] = until;
}

}  // namespace mnemo
