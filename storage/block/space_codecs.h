// What encoding takes to know of spaces: what their owners allow, their geometry,
// and the calibrations of their groups.
//
// A group is calibrated once, from the first parts of it that are to be encoded; as
// long as that lasts its parts stay exact. Where its policy has use for axes it learns
// those, unless they are too dear; with statistics it need not stay exact meanwhile. The
// calibration is on stable storage before any section names it, and goes with the space.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"
#include "storage/base/units.h"
#include "storage/block/space.h"
#include "storage/codec/calibration.h"
#include "storage/codec/codec.h"
#include "storage/codec/tensor_shape.h"
#include "storage/tier/store.h"

namespace mnemo {

// Thread-safe. Memory: calibrations of the spaces that were met, 24 bytes a channel, and twice
// the serialized bytes of those with axes; while groups are being calibrated, the bounds below.
class SpaceCodecs {
 public:
  using FindSpace = std::function<std::shared_ptr<const Space>(KeyScope)>;

  // So many tokens are seen before a group is calibrated, without and with axes.
  static constexpr uint64_t kTokensToLearn = 1024;
  static constexpr uint64_t kTokensToLearnAxes = 4096;
  // Groups of more channels, K and V together, do without any calibration.
  static constexpr uint64_t kMaxChannels = uint64_t{1} << 19;
  // Of all groups that learn statistics at once; others stay exact meanwhile.
  static constexpr uint64_t kMostLearningBytes = 48 * 2 * kMaxChannels;
  // A group does without axes, and learns statistics, where these would be exceeded: by the
  // calibration in bytes, which has to fit a message to a client; by what is collected for
  // it; by that of all groups that learn axes just then; by dimension^3 of all heads, for
  // finishing takes some 7 ns times that. Only the third passes: the group's next part asks again.
  static constexpr uint64_t kMostAxesBytes = 8 * kMiB;
  static constexpr uint64_t kMostAxesLearnerBytes = 64 * kMiB;
  static constexpr uint64_t kMostAxesLearningBytes = 128 * kMiB;
  static constexpr uint64_t kMostAxesWork = uint64_t{1} << 31;

  // A group that learns and got nothing for so long gives way to one that finds no room.
  static constexpr Nanos kIdle = std::chrono::minutes(1);
  // So many parts are measured in vain before the form without axes is taken.
  static constexpr uint32_t kMostVainTrials = 8;

  // Both outlive it.
  SpaceCodecs(Store& state, const Clock& clock) : state_(state), clock_(clock) {}

  // Where spaces are found, null where there is none; until then, there is none. Before
  // other threads are here.
  void Use(FindSpace find) { find_ = std::move(find); }
  // Null if it is not known.
  std::shared_ptr<const Space> Find(KeyScope scope) const { return find_ ? find_(scope) : nullptr; }

  // All that sections of the space may name; never null. Errors: those of Store;
  // kDataLoss.
  absl::StatusOr<std::shared_ptr<const CalibrationSet>> CalibrationsOf(KeyScope scope);

  struct GroupCalibration {
    std::shared_ptr<const Calibration> calibration;  // null: the group does without
    bool is_final = true;  // otherwise what is wanted may come yet: parts are to be learnt from
  };
  // None while the group is not calibrated. With kAxes, statistics alone are an answer for a
  // group that does without axes or has none yet. Errors: as CalibrationsOf.
  absl::StatusOr<std::optional<GroupCalibration>> OfGroup(KeyScope scope, uint8_t group,
                                                          CalibrationKind wanted);
  // Takes an exact part into the calibration of its group: `section(i)` gives the bytes of
  // tensor i, until the next call. The part with which there is enough takes as long as
  // CalibrationFit::Finish, seconds with axes, with no lock held. What the group learnt of the
  // other kind is given up. Errors: those of `section` and of Store; then the part may not have
  // been counted.
  using Section = std::function<absl::StatusOr<ByteView>(uint32_t i)>;
  absl::Status Learn(const Space& space, uint8_t group, CalibrationKind wanted,
                     std::span<const TensorShape> tensors, const Section& section);

  // Which form is taken where `with_axes` qualifies. None: not measured since the start.
  std::optional<StoredForm> ChoiceOf(KeyScope scope, uint8_t group, StoredForm with_axes) const;
  // The first that is told counts, and is the answer. Of a space that was forgotten nothing is
  // kept.
  StoredForm Choose(KeyScope scope, uint8_t group, StoredForm with_axes, StoredForm choice);
  // A part told nothing of which is better: kMostVainTrials of those choose `without`.
  void CountVainTrial(KeyScope scope, uint8_t group, StoredForm with_axes, StoredForm without);

  // The space is gone.
  void Forget(KeyScope scope);
  // Where there is no such space any more: erases what a part that was learnt from
  // meanwhile left behind. Nobody learns from parts of it now. Errors: those of Store.
  absl::Status EraseLeftOvers(KeyScope scope);

  // Parts of the space may lie in another form than it asks for now: its policy changed,
  // a group of it was calibrated, or something was put there as it came.
  void Changed(KeyScope scope);
  bool IsChanged(KeyScope scope) const;
  std::vector<KeyScope> AllChanged() const;
  // A changed space that does not rest at `now`; it counts as changed no more.
  std::optional<KeyScope> NextChanged(MonoTime now);
  // It is not next before `until`, whether it changes or not.
  void Rest(KeyScope scope, MonoTime until);

 private:
  // A group may have one of each kind: its policy changed while somebody added to one.
  struct LearnerKey {
    KeyScope scope;
    uint8_t group;
    CalibrationKind kind;
    friend auto operator<=>(const LearnerKey&, const LearnerKey&) = default;
  };
  struct Known {
    std::shared_ptr<const CalibrationSet> set;
    std::map<std::pair<uint8_t, CalibrationKind>, GroupCalibration> groups;
    std::map<std::pair<uint8_t, StoredForm>, StoredForm> choices;
    std::map<std::pair<uint8_t, StoredForm>, uint32_t> vain_trials;
  };
  struct Learner {
    Mutex mutex;  // while a part is added; never across the store
    // None: somebody is making a calibration of it.
    std::optional<CalibrationFit> fit ABSL_GUARDED_BY(mutex);
    uint64_t tokens ABSL_GUARDED_BY(mutex) = 0;
  };
  struct Place {
    // Shared with who adds to it or finishes it, who may outlive its space.
    std::shared_ptr<Learner> learner;
    uint64_t bytes = 0;
    MonoTime fed;  // when it was last asked for
    // Nobody new can come while `learning_` is held.
    bool is_used() const { return learner.use_count() > 1; }
  };
  using Places = std::map<LearnerKey, Place>;

  static uint64_t& OfKind(CalibrationKind kind, std::array<uint64_t, 2>& counts) {
    return counts[static_cast<size_t>(kind)];
  }
  // Of [first, last].
  void EraseLearners(const LearnerKey& first, const LearnerKey& last)
      ABSL_LOCKS_EXCLUDED(learning_);
  Places::iterator Erase(Places::iterator place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(learning_);
  // Whether `bytes` more fit, once those are gone that are idle at `now`, if need be.
  bool MakeRoom(CalibrationKind kind, uint64_t bytes, MonoTime now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(learning_);
  bool IsLearnt(const LearnerKey& key) const;
  // Copies what is known of `scope`, having loaded it if need be.
  absl::StatusOr<Known> Load(KeyScope scope);
  // What the group adds to, made if need be; that of its other kind goes. Null: it is learnt, or
  // there is no room now.
  absl::StatusOr<std::shared_ptr<Learner>> LearnerOf(const LearnerKey& key, const Group& described)
      ABSL_LOCKS_EXCLUDED(learning_);
  // Adds the part. The fit, once there is enough of it.
  static absl::StatusOr<std::optional<CalibrationFit>> Add(Learner& learner, CalibrationKind kind,
                                                           const Group& described,
                                                           std::span<const TensorShape> tensors,
                                                           const Section& section);
  // Makes the calibration of what was seen, and says so.
  absl::Status Finish(const LearnerKey& key, const CalibrationFit& fit);
  absl::Status Persist(const LearnerKey& key, const Calibration& calibration);
  void Publish(const LearnerKey& key, std::shared_ptr<const Calibration> calibration);

  Store& state_;
  const Clock& clock_;
  FindSpace find_;
  Mutex learning_;  // never with that of a learner
  Places learners_ ABSL_GUARDED_BY(learning_);
  std::array<uint64_t, 2> learning_bytes_ ABSL_GUARDED_BY(learning_){};  // of all, by kind
  mutable Mutex mutex_;                                                  // innermost
  std::map<KeyScope, Known> known_ ABSL_GUARDED_BY(mutex_);
  std::set<KeyScope> changed_ ABSL_GUARDED_BY(mutex_);
  std::map<KeyScope, MonoTime> resting_ ABSL_GUARDED_BY(mutex_);  // until when
};

// The range of stored keys that calibrations of a space have in the state store, whose
// deletion goes with that of the space.
StoredKey CalibrationPrefix(KeyScope scope);

}  // namespace mnemo
