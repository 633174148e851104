// Calibrations of spaces, which decoding takes, as the daemon hands them out.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "mnemo/types.h"
#include "storage/base/bytes.h"
#include "storage/base/mutex.h"
#include "storage/codec/calibration.h"

namespace mnemo::client {

class Core;
struct CallSettings;

// Calibrations never change: their id is that of their bytes, so they stay right even when
// their space is deleted. Thread-safe. Memory: kMostBytes as they came, three times that as
// they are kept; past that all are forgotten and asked for anew.
class CalibrationCache {
 public:
  static constexpr uint64_t kMostBytes = uint64_t{64} << 20;

  // Null if it is not here.
  std::shared_ptr<const Calibration> Find(const SpaceRef& space, uint32_t id) const;
  // What the daemon answered for `id`. Errors: kInternal (no calibration, or another one).
  absl::Status Add(const SpaceRef& space, uint32_t id, ByteView bytes);

 private:
  using Key = std::pair<std::variant<uint64_t, std::string>, uint32_t>;
  mutable Mutex mutex_;
  std::map<Key, std::shared_ptr<const Calibration>> known_ ABSL_GUARDED_BY(mutex_);
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Why calibrations are not to be had, by id.
using CalibrationFailures = std::map<uint32_t, absl::Status>;

// Asks for those of `ids`, one after another, and keeps them in the core's cache. `done`
// is called once, on a thread of the client, with those that failed.
void FetchCalibrations(Core& core, const CallSettings& settings, const SpaceRef& space,
                       std::set<uint32_t> ids, std::function<void(CalibrationFailures)> done);

}  // namespace mnemo::client
