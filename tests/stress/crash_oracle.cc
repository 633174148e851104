#include "tests/stress/crash_oracle.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

namespace mnemo {

void CrashOracle::Take(const CrashRecord& record) {
  Key& key = keys_[record.key % kCrashKeys];
  switch (record.kind) {
    case CrashRecord::Kind::kFound:
      key.seen = true;
      key.now = record.version;
      break;
    case CrashRecord::Kind::kWrong:
      Violate(record.key, key, fmt::format("wrong bytes of version {}", record.version));
      break;
    case CrashRecord::Kind::kReady:
      Judge();
      break;
    case CrashRecord::Kind::kBeginPut:
      key.since.push_back({record.version, record.nanos, 0});
      break;
    case CrashRecord::Kind::kBeginErase:
      key.since.push_back({0, record.nanos, 0});
      break;
    case CrashRecord::Kind::kAcknowledged:
      key.since.back().acknowledged = record.nanos;
      ++acknowledged_;
      break;
    case CrashRecord::Kind::kRefused:
      break;
    case CrashRecord::Kind::kPowerLost:
      crashed_at_ = record.nanos;
      power_lost_ = true;
      break;
    case CrashRecord::Kind::kFailed:
      Violate(record.key, key, fmt::format("the child failed with code {}", record.version));
      break;
  }
}

std::string CrashOracle::HistoryOf(const Key& key) {
  std::string history = fmt::format("found {}", key.found);
  for (const Operation& operation : key.since) {
    history += fmt::format(", {}{}", operation.version == 0 ? "erase" : "put ",
                           operation.version == 0 ? "" : std::to_string(operation.version));
    history += operation.acknowledged != 0 ? " ok" : " ?";
  }
  return history;
}

void CrashOracle::Violate(uint32_t number, const Key& key, const std::string& what) {
  violations_.push_back(fmt::format("key {} class {}: {}; history: {}", number,
                                    static_cast<int>(ClassOfKey(number)), what, HistoryOf(key)));
}

void CrashOracle::JudgeSync(uint32_t number, const Key& key) {
  std::set<uint64_t> possible = {key.found};
  for (const Operation& operation : key.since) {
    if (operation.acknowledged != 0) possible.clear();
    possible.insert(operation.version);
  }
  if (possible.contains(key.now)) return;
  ++lost_[static_cast<size_t>(Durability::kSync)];
  Violate(number, key, fmt::format("version {} is there", key.now));
}

void CrashOracle::JudgeCache(uint32_t number, const Key& key) {
  uint64_t last = key.found;
  for (const Operation& operation : key.since) {
    if (operation.acknowledged != 0) last = operation.version;
  }
  if (last != 0 && key.now == 0) ++lost_[static_cast<size_t>(Durability::kCache)];
  if (key.now == 0 || key.now == key.found) return;
  for (const Operation& operation : key.since) {
    if (operation.version == key.now) return;
  }
  Violate(number, key, fmt::format("version {} was never written", key.now));
}

void CrashOracle::JudgeInterval(uint32_t number, const Key& key) {
  // After how many operations, from the first, the key would be as it was found:
  // at least `needed` took effect, and those from `kept` on did not. One that was
  // not acknowledged may have had no effect.
  size_t kept = key.since.size() + 1;
  size_t needed = kept;
  std::set<uint64_t> possible = {key.found};
  for (size_t end = 0; end <= key.since.size(); ++end) {
    if (end > 0) {
      if (key.since[end - 1].acknowledged != 0) possible.clear();
      possible.insert(key.since[end - 1].version);
    }
    if (!possible.contains(key.now)) continue;
    kept = end;
    needed = std::min(needed, end);
  }
  if (kept > key.since.size()) {
    Violate(number, key, fmt::format("version {} is there, which no prefix leaves", key.now));
    return;
  }
  // Only what is needed is evidence: of several erasures, the later ones leave
  // no trace.
  if (needed > 0 && key.since[needed - 1].begun > last_kept_) {
    last_kept_ = key.since[needed - 1].begun;
    last_kept_key_ = number;
  }
  for (size_t i = kept; i < key.since.size(); ++i) {
    const int64_t acknowledged = key.since[i].acknowledged;
    if (acknowledged == 0) continue;
    ++lost_[static_cast<size_t>(Durability::kInterval)];
    if (acknowledged < first_lost_) {
      first_lost_ = acknowledged;
      first_lost_key_ = number;
    }
    if (acknowledged < crashed_at_ - window_.count()) {
      Violate(number, key, fmt::format("version {} is there; lost {} ms before the crash", key.now,
                                       (crashed_at_ - acknowledged) / 1'000'000));
    }
  }
}

void CrashOracle::Judge() {
  first_lost_ = std::numeric_limits<int64_t>::max();
  last_kept_ = 0;
  for (uint32_t number = 0; number < kCrashKeys; ++number) {
    Key& key = keys_[number];
    if (!key.seen) Violate(number, key, "was not looked at");
    switch (ClassOfKey(number)) {
      case Durability::kCache:
        JudgeCache(number, key);
        break;
      case Durability::kInterval:
        JudgeInterval(number, key);
        break;
      case Durability::kSync:
        JudgeSync(number, key);
        break;
    }
  }
  if (last_kept_ > first_lost_) {
    Violate(first_lost_key_, keys_[first_lost_key_],
            fmt::format("lost, though key {} kept version {}, begun {} us later: no suffix; "
                        "its history: {}",
                        last_kept_key_, keys_[last_kept_key_].now,
                        (last_kept_ - first_lost_) / 1000, HistoryOf(keys_[last_kept_key_])));
  }
  for (Key& key : keys_) key = Key{.found = key.now};
}

}  // namespace mnemo
