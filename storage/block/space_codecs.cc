#include "storage/block/space_codecs.h"

#include <fmt/format.h>

#include <string>

#include "storage/base/status_macros.h"
#include "storage/tier/stored_key.h"

namespace mnemo {
namespace {

// With the records of spaces, which go together with theirs.
constexpr uint16_t kStateShard = 0;
// What the answer of GetCalibration takes, less room for its own fields.
constexpr uint64_t kMostCalibrationBytes = 9 * kMiB - 1024;

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

// Sums what `of` gives for the dimension of each head, of K and of V.
template <typename Function>
uint64_t SumOfHeads(const Group& group, Function of) {
  const uint64_t heads = uint64_t{group.layers} * group.kv_heads;
  return heads * (of(uint64_t{group.k_dimension}) + of(uint64_t{group.v_dimension}));
}

// What CalibrationFit says to take.
uint64_t LearnerBytes(const Group& group, CalibrationKind kind) {
  const bool axes = kind == CalibrationKind::kAxes;
  return SumOfHeads(group, [&](uint64_t n) { return n * (48 + (axes ? 8 * n + 512 : 0)); });
}

bool AreAxesTooDear(const Group& group) {
  if (group.k_dimension > 1024 || group.v_dimension > 1024) return true;
  // Axes in 2 bytes, statistics and spreads in some 20 a channel.
  const uint64_t bytes = SumOfHeads(group, [](uint64_t n) { return n * (2 * n + 20); });
  const uint64_t work = SumOfHeads(group, [](uint64_t n) { return n * n * n; });
  return bytes > SpaceCodecs::kMostAxesBytes || work > SpaceCodecs::kMostAxesWork ||
         LearnerBytes(group, CalibrationKind::kAxes) > SpaceCodecs::kMostAxesLearnerBytes;
}

CalibrationKind KindOf(const Calibration& calibration) {
  return calibration.has_axes() ? CalibrationKind::kAxes : CalibrationKind::kStatistics;
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
        const auto group = static_cast<uint8_t>(key.suffix()[0]);
        const CalibrationKind kind = KindOf(**calibration);
        loaded.groups[{group, kind}] = {*std::move(calibration)};
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

absl::StatusOr<std::optional<SpaceCodecs::GroupCalibration>> SpaceCodecs::OfGroup(
    KeyScope scope, uint8_t group, CalibrationKind wanted) {
  MNEMO_ASSIGN_OR_RETURN(const Known known, Load(scope));
  const auto axes = known.groups.find({group, CalibrationKind::kAxes});
  const bool has_axes = axes != known.groups.end() && axes->second.calibration != nullptr;
  if (wanted == CalibrationKind::kAxes && has_axes) return axes->second;
  const auto statistics = known.groups.find({group, CalibrationKind::kStatistics});
  if (statistics != known.groups.end()) {
    const bool is_final = wanted == CalibrationKind::kStatistics || axes != known.groups.end();
    return GroupCalibration{statistics->second.calibration, is_final};
  }
  // Axes come with statistics.
  if (has_axes) return axes->second;
  return std::nullopt;
}

absl::StatusOr<std::shared_ptr<SpaceCodecs::Learner>> SpaceCodecs::LearnerOf(
    const LearnerKey& key, const Group& described) {
  const MonoTime now = clock_.Mono();
  MutexLock lock(learning_);
  if (IsLearnt(key)) return nullptr;
  LearnerKey other = key;
  other.kind =
      key.kind == CalibrationKind::kAxes ? CalibrationKind::kStatistics : CalibrationKind::kAxes;
  const auto unwanted = learners_.find(other);
  const bool has_unwanted = unwanted != learners_.end() && !unwanted->second.is_used();
  if (const auto found = learners_.find(key); found != learners_.end()) {
    if (has_unwanted) Erase(unwanted);
    found->second.fed = now;
    return found->second.learner;
  }
  const uint64_t bytes = LearnerBytes(described, key.kind);
  if (!MakeRoom(key.kind, bytes, now)) return nullptr;
  MNEMO_ASSIGN_OR_RETURN(CalibrationFit fit,
                         CalibrationFit::Create(GeometryOfGroup(described), key.kind));
  if (has_unwanted) Erase(unwanted);
  auto learner = std::make_shared<Learner>();
  {
    MutexLock nobody_else_has_it(learner->mutex);
    learner->fit = std::move(fit);
  }
  OfKind(key.kind, learning_bytes_) += bytes;
  learners_.emplace(key, Place{learner, bytes, now});
  return learner;
}

bool SpaceCodecs::MakeRoom(CalibrationKind kind, uint64_t bytes, MonoTime now) {
  const bool axes = kind == CalibrationKind::kAxes;
  const uint64_t most = axes ? kMostAxesLearningBytes : kMostLearningBytes;
  const uint64_t& taken = OfKind(kind, learning_bytes_);
  while (taken + bytes > most) {
    auto idlest = learners_.end();
    for (auto at = learners_.begin(); at != learners_.end(); ++at) {
      if (at->first.kind != kind || at->second.is_used()) continue;
      if (at->second.fed + kIdle > now) continue;
      if (idlest == learners_.end() || at->second.fed < idlest->second.fed) idlest = at;
    }
    if (idlest == learners_.end()) return false;
    Erase(idlest);
  }
  return true;
}

absl::StatusOr<std::optional<CalibrationFit>> SpaceCodecs::Add(Learner& learner,
                                                               CalibrationKind kind,
                                                               const Group& described,
                                                               std::span<const TensorShape> tensors,
                                                               const Section& section) {
  MutexLock lock(learner.mutex);
  if (!learner.fit) return std::nullopt;
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    MNEMO_ASSIGN_OR_RETURN(const ByteView exact, section(i));
    const absl::Status added = learner.fit->Add(tensors[i], exact);
    // A section that is not finite is no example; it will stay exact itself.
    if (!added.ok() && !absl::IsOutOfRange(added)) return added;
  }
  learner.tokens += tensors[0].tokens;
  const uint64_t parts = uint64_t{described.tensor_parallel_size} * described.pipeline_size();
  const uint64_t wanted = kind == CalibrationKind::kAxes ? kTokensToLearnAxes : kTokensToLearn;
  if (learner.tokens < wanted * parts) return std::nullopt;
  std::optional<CalibrationFit> enough = std::move(learner.fit);
  learner.fit.reset();
  return enough;
}

absl::Status SpaceCodecs::Learn(const Space& space, uint8_t group, CalibrationKind wanted,
                                std::span<const TensorShape> tensors, const Section& section) {
  const Group& described = space.spec.groups[group];
  LearnerKey key{space.scope, group, wanted};
  if (wanted == CalibrationKind::kAxes) {
    if (!IsLearnt(key) && AreAxesTooDear(described)) Publish(key, nullptr);
    // The group does without axes.
    if (IsLearnt(key)) key.kind = CalibrationKind::kStatistics;
  }
  if (ChannelsOf(described) > kMaxChannels) {
    Publish(key, nullptr);
    return absl::OkStatus();
  }
  // Kept until it is finished: what is used does not give way.
  MNEMO_ASSIGN_OR_RETURN(std::shared_ptr<Learner> learner, LearnerOf(key, described));
  if (learner == nullptr && key.kind == CalibrationKind::kAxes && !IsLearnt(key)) {
    key.kind = CalibrationKind::kStatistics;
    MNEMO_ASSIGN_OR_RETURN(learner, LearnerOf(key, described));
  }
  if (learner == nullptr) return absl::OkStatus();
  MNEMO_ASSIGN_OR_RETURN(const std::optional<CalibrationFit> fit,
                         Add(*learner, key.kind, described, tensors, section));
  return fit ? Finish(key, *fit) : absl::OkStatus();
}

absl::Status SpaceCodecs::Finish(const LearnerKey& key, const CalibrationFit& fit) {
  absl::StatusOr<std::shared_ptr<const Calibration>> calibration = fit.Finish();
  std::string bytes;
  if (calibration.ok()) bytes = (*calibration)->Serialize();
  if (bytes.size() > kMostCalibrationBytes) {
    calibration = absl::OutOfRangeError("a calibration that no client could ask for");
  }
  // What a restart could not read is not used: keys at the bound may be beyond it once
  // their positions are off.
  if (calibration.ok()) calibration = Calibration::Parse(AsBytes(bytes));
  absl::Status persisted;
  LearnerKey first = key;
  if (calibration.ok()) {
    persisted = Persist(key, **calibration);
    // Axes come with statistics.
    if (persisted.ok()) first.kind = CalibrationKind::kStatistics;
  }
  if (persisted.ok()) {
    // Where a layer or head was hardly ever seen, the group does without.
    Publish(key, calibration.ok() ? *std::move(calibration) : nullptr);
  }
  EraseLearners(first, key);
  return persisted;
}

absl::Status SpaceCodecs::Persist(const LearnerKey& learnt, const Calibration& calibration) {
  StoreBatch batch;
  const StoredKey key = KeyOf(learnt.scope, learnt.group, calibration);
  const std::string bytes = calibration.Serialize();
  batch.Put(key, bytes);
  batch.Log({.shard = kStateShard,
             .kind = OperationKind::kPutCalibration,
             .key = key.bytes(),
             .payload = bytes});
  return state_.Apply(batch, /*sync=*/true);
}

void SpaceCodecs::Publish(const LearnerKey& key, std::shared_ptr<const Calibration> calibration) {
  MutexLock lock(mutex_);
  const auto known = known_.find(key.scope);
  if (known == known_.end()) return;  // forgotten meanwhile
  if (calibration != nullptr) {
    auto set = std::make_shared<CalibrationSet>(*known->second.set);
    set->Add(calibration);
    known->second.set = std::move(set);
  }
  known->second.groups[{key.group, key.kind}] = {std::move(calibration)};
  // Its parts before this one stayed exact.
  changed_.insert(key.scope);
}

std::optional<StoredForm> SpaceCodecs::ChoiceOf(KeyScope scope, uint8_t group,
                                                StoredForm with_axes) const {
  MutexLock lock(mutex_);
  const auto known = known_.find(scope);
  if (known == known_.end()) return std::nullopt;
  const auto found = known->second.choices.find({group, with_axes});
  if (found == known->second.choices.end()) return std::nullopt;
  return found->second;
}

StoredForm SpaceCodecs::Choose(KeyScope scope, uint8_t group, StoredForm with_axes,
                               StoredForm choice) {
  MutexLock lock(mutex_);
  const auto known = known_.find(scope);
  if (known == known_.end()) return choice;
  return known->second.choices.try_emplace({group, with_axes}, choice).first->second;
}

void SpaceCodecs::CountVainTrial(KeyScope scope, uint8_t group, StoredForm with_axes,
                                 StoredForm without) {
  MutexLock lock(mutex_);
  const auto known = known_.find(scope);
  if (known == known_.end()) return;
  const std::pair<uint8_t, StoredForm> key{group, with_axes};
  if (++known->second.vain_trials[key] < kMostVainTrials) return;
  known->second.choices.try_emplace(key, without);
}

void SpaceCodecs::Forget(KeyScope scope) {
  {
    MutexLock lock(mutex_);
    known_.erase(scope);
    changed_.erase(scope);
    resting_.erase(scope);
  }
  EraseLearners({scope, 0, CalibrationKind::kStatistics}, {scope, 0xff, CalibrationKind::kAxes});
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

void SpaceCodecs::EraseLearners(const LearnerKey& first, const LearnerKey& last) {
  MutexLock lock(learning_);
  auto at = learners_.lower_bound(first);
  while (at != learners_.end() && at->first <= last) at = Erase(at);
}

SpaceCodecs::Places::iterator SpaceCodecs::Erase(Places::iterator place) {
  OfKind(place->first.kind, learning_bytes_) -= place->second.bytes;
  return learners_.erase(place);
}

bool SpaceCodecs::IsLearnt(const LearnerKey& key) const {
  MutexLock lock(mutex_);
  const auto known = known_.find(key.scope);
  if (known == known_.end()) return false;
  if (known->second.groups.contains({key.group, key.kind})) return true;
  const auto axes = known->second.groups.find({key.group, CalibrationKind::kAxes});
  return axes != known->second.groups.end() && axes->second.calibration != nullptr;
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
