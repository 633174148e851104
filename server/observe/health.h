// Whether the daemon lives, has started, and takes calls.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/base/mutex.h"

namespace mnemo {

// Goes from kStarting to kReady to kStopping, never back. Thread-safe.
class Health {
 public:
  enum class Phase : uint8_t { kStarting, kReady, kStopping };

  void SetReady();
  void SetStopping();
  Phase phase() const;
  bool ready() const { return phase() == Phase::kReady; }

  enum class Change : uint8_t { kNone, kNew, kMended };
  // What is wrong although it runs, by a name that a later call replaces; an
  // empty text mends it. kNew if there was none of this name, kMended if there
  // was and is none now.
  Change SetProblem(const std::string& name, const std::string& text);
  std::vector<std::string> problems() const;

 private:
  mutable Mutex mutex_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kStarting;
  std::vector<std::pair<std::string, std::string>> problems_ ABSL_GUARDED_BY(mutex_);
};

// "starting", "ready", "stopping".
std::string_view PhaseName(Health::Phase phase);

}  // namespace mnemo
