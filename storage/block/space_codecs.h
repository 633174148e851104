// What encoding takes to know of spaces: what their owners allow, their geometry,
// and the calibrations of their groups.
//
// A group is calibrated once, from the first parts of it that are to be encoded; as
// long as that lasts its parts stay exact. Where its policy has use for axes it learns
// those, unless they are too dear. The calibration is on stable storage before any section
// names it, and goes with the space.
#pragma once

#include <array>
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
  // finishing takes some 7 ns times that.
  static constexpr uint64_t kMostAxesBytes = 8 * kMiB;
  static constexpr uint64_t kMostAxesLearnerBytes = 64 * kMiB;
  static constexpr uint64_t kMostAxesLearningBytes = 128 * kMiB;
  static constexpr uint64_t kMostAxesWork = uint64_t{1} << 31;

  explicit SpaceCodecs(Store& state) : state_(state) {}

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
  };
  // None while the group is not calibrated. With kAxes, statistics alone are an answer for a
  // group that does without axes. Errors: as CalibrationsOf.
  absl::StatusOr<std::optional<GroupCalibration>> OfGroup(KeyScope scope, uint8_t group,
                                                          CalibrationKind wanted);
  // Takes an exact part into the calibration of its group: `section(i)` gives the bytes of
  // tensor i, until the next call. The part with which there is enough takes as long as
  // CalibrationFit::Finish, seconds with axes, with no lock held. Errors: those of `section` and
  // of Store; then the part may not have been counted.
  using Section = std::function<absl::StatusOr<ByteView>(uint32_t i)>;
  absl::Status Learn(const Space& space, uint8_t group, CalibrationKind wanted,
                     std::span<const TensorShape> tensors, const Section& section);

  // Which form was measured to be better where `with_axes` qualifies. None: not measured since
  // the start.
  std::optional<StoredForm> ChoiceOf(KeyScope scope, uint8_t group, StoredForm with_axes) const;
  // The first that is told counts. Nothing of a space that was forgotten.
  void Choose(KeyScope scope, uint8_t group, StoredForm with_axes, StoredForm choice);

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
  // A group may have one of each kind: its policy changed.
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
  };
  struct Learner {
    Mutex mutex;  // while a part is added; never across the store
    // None: somebody is making a calibration of it.
    std::optional<CalibrationFit> fit ABSL_GUARDED_BY(mutex);
    uint64_t tokens ABSL_GUARDED_BY(mutex) = 0;
    uint64_t bytes = 0;  // never changed
  };

  static uint64_t& OfKind(CalibrationKind kind, std::array<uint64_t, 2>& counts) {
    return counts[static_cast<size_t>(kind)];
  }
  // Of [first, last].
  void EraseLearners(const LearnerKey& first, const LearnerKey& last)
      ABSL_LOCKS_EXCLUDED(learning_);
  bool IsLearnt(const LearnerKey& key) const;
  // Copies what is known of `scope`, having loaded it if need be.
  absl::StatusOr<Known> Load(KeyScope scope);
  // What the group adds to, made if need be. Null: it is learnt, or must not learn now.
  absl::StatusOr<std::shared_ptr<Learner>> LearnerOf(const LearnerKey& key, const Group& described)
      ABSL_LOCKS_EXCLUDED(learning_);
  // Adds the part. The fit, once there is enough of it.
  absl::StatusOr<std::optional<CalibrationFit>> Add(const LearnerKey& key, const Group& described,
                                                    std::span<const TensorShape> tensors,
                                                    const Section& section);
  // Makes the calibration of what was seen, and says so.
  absl::Status Finish(const LearnerKey& key, const CalibrationFit& fit);
  absl::Status Persist(const LearnerKey& key, const Calibration& calibration);
  void Publish(const LearnerKey& key, std::shared_ptr<const Calibration> calibration);

  Store& state_;
  FindSpace find_;
  Mutex learning_;  // never with that of a learner
  // Shared with who adds to it, who may outlive its space.
  std::map<LearnerKey, std::shared_ptr<Learner>> learners_ ABSL_GUARDED_BY(learning_);
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
