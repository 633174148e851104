// What encoding takes to know of spaces: what their owners allow, their geometry,
// and the calibrations of their groups.
//
// A group is calibrated once, from the first parts of it that are to be encoded; as
// long as that lasts its parts stay exact. The calibration is on stable storage before
// any section names it, and goes with the space.
#pragma once

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
#include "storage/block/space.h"
#include "storage/codec/calibration.h"
#include "storage/codec/tensor_shape.h"
#include "storage/tier/store.h"

namespace mnemo {

// Thread-safe. Memory: calibrations of the spaces that were met, 24 bytes a channel; while
// a group is being calibrated, 48 bytes a channel.
class SpaceCodecs {
 public:
  using FindSpace = std::function<std::shared_ptr<const Space>(KeyScope)>;

  // So many tokens are seen before a group is calibrated.
  static constexpr uint64_t kTokensToLearn = 1024;
  // Groups of more channels, K and V together, do without.
  static constexpr uint64_t kMaxChannels = uint64_t{1} << 19;
  // Of all groups that learn at once, some 50 MiB; others stay exact meanwhile.
  static constexpr uint64_t kMostLearningChannels = 2 * kMaxChannels;

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
  // None while the group is not calibrated. Errors: as CalibrationsOf.
  absl::StatusOr<std::optional<GroupCalibration>> OfGroup(KeyScope scope, uint8_t group);
  // Takes an exact part into the calibration of its group: `section(i)` gives the bytes of
  // tensor i, until the next call. Errors: those of `section` and of Store; then the part may not
  // have been counted.
  using Section = std::function<absl::StatusOr<ByteView>(uint32_t i)>;
  absl::Status Learn(const Space& space, uint8_t group, std::span<const TensorShape> tensors,
                     const Section& section);

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
  using GroupKey = std::pair<KeyScope, uint8_t>;
  struct Known {
    std::shared_ptr<const CalibrationSet> set;
    std::map<uint8_t, GroupCalibration> groups;
  };
  struct Learner {
    std::optional<CalibrationFit> fit;  // none: somebody is making a calibration of it
    uint64_t tokens = 0;
    uint64_t channels = 0;
  };

  // Of [first, last].
  void EraseLearners(const GroupKey& first, const GroupKey& last)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(learning_);
  bool IsLearnt(KeyScope scope, uint8_t group) const;
  // Copies what is known of `scope`, having loaded it if need be.
  absl::StatusOr<Known> Load(KeyScope scope);
  // Adds the part. The fit, once there is enough of it.
  absl::StatusOr<std::optional<CalibrationFit>> Add(const Space& space, uint8_t group,
                                                    std::span<const TensorShape> tensors,
                                                    const Section& section)
      ABSL_LOCKS_EXCLUDED(learning_);
  absl::Status Persist(KeyScope scope, uint8_t group, const Calibration& calibration);
  void Publish(KeyScope scope, uint8_t group, std::shared_ptr<const Calibration> calibration);

  Store& state_;
  FindSpace find_;
  Mutex learning_;  // while a part is added; never across the store
  std::map<GroupKey, Learner> learners_ ABSL_GUARDED_BY(learning_);
  uint64_t learning_channels_ ABSL_GUARDED_BY(learning_) = 0;  // of all of them
  mutable Mutex mutex_;                                        // innermost
  std::map<KeyScope, Known> known_ ABSL_GUARDED_BY(mutex_);
  std::set<KeyScope> changed_ ABSL_GUARDED_BY(mutex_);
  std::map<KeyScope, MonoTime> resting_ ABSL_GUARDED_BY(mutex_);  // until when
};

// The range of stored keys that calibrations of a space have in the state store, whose
// deletion goes with that of the space.
StoredKey CalibrationPrefix(KeyScope scope);

}  // namespace mnemo
