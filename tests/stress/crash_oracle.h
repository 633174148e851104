// What may be there after a crash, class by class. Outlives every child.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "storage/base/clock.h"
#include "tests/stress/crash_records.h"

namespace mnemo {

// Not thread-safe.
class CrashOracle {
 public:
  // `window`: how long before the crash an acknowledged interval write may be
  // and still be lost.
  explicit CrashOracle(Nanos window) : window_(window), keys_(kCrashKeys) {}

  // The next record of a child, in order.
  void Take(const CrashRecord& record);
  // The child ended at `nanos` of the machine's monotonic clock, or lost power
  // before, when it said so.
  void Crashed(int64_t nanos) {
    if (!power_lost_) crashed_at_ = nanos;
    power_lost_ = false;
  }

  // What must not be, each with key, class and history.
  const std::vector<std::string>& violations() const { return violations_; }
  uint64_t acknowledged() const { return acknowledged_; }
  // Acknowledged effects that were not there after a crash, by class.
  uint64_t lost(Durability durability) const { return lost_[static_cast<size_t>(durability)]; }

 private:
  struct Operation {
    uint64_t version = 0;  // 0: erased
    int64_t begun = 0;
    int64_t acknowledged = 0;  // 0: not
  };
  struct Key {
    uint64_t found = 0;  // after the last restart
    std::vector<Operation> since;
    bool seen = false;   // since the restart under way
    uint64_t now = 0;    // what this restart found
  };

  void Judge();
  void JudgeSync(uint32_t number, const Key& key);
  void JudgeCache(uint32_t number, const Key& key);
  void JudgeInterval(uint32_t number, const Key& key);
  static std::string HistoryOf(const Key& key);
  void Violate(uint32_t number, const Key& key, const std::string& what);

  const Nanos window_;
  std::vector<Key> keys_;
  bool power_lost_ = false;
  int64_t crashed_at_ = 0;
  // Over all interval keys of one restart: the first acknowledgement among what
  // was lost, and the last beginning among what was kept.
  int64_t first_lost_ = 0;
  int64_t last_kept_ = 0;
  uint32_t first_lost_key_ = 0;
  uint32_t last_kept_key_ = 0;
  uint64_t acknowledged_ = 0;
  uint64_t lost_[4] = {};
  std::vector<std::string> violations_;
};

}  // namespace mnemo
