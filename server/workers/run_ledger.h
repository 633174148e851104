// Where the whole runs of contexts lie, remembered in RAM.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "server/engine/context_upkeep_figures.h"
#include "storage/context/context_types.h"

namespace mnemo {

// 2,048 tokens of a context: positions from run x 2,048.
struct RunRef {
  KeyScope scope;
  uint64_t run = 0;
  friend auto operator<=>(const RunRef&, const RunRef&) = default;
};

// Not thread-safe. 8 bytes for each 131,072 tokens, and about 120 for each
// context that has a whole run; the others take nothing.
class RunLedger {
 public:
  // A context with `runs` whole runs (1 or more) of `run_bytes` each; bit i of
  // archived[r] says that run r x 64 + i lies in the archive. In place of what
  // was known of it.
  void Set(KeyScope scope, uint64_t run_bytes, uint64_t runs, std::vector<uint64_t> archived);
  // It has `runs` now; those that are new lie at L3. No-op unless it is known
  // and has grown.
  void Grow(KeyScope scope, uint64_t runs);
  void Forget(KeyScope scope);
  // No-op unless the run is known and lies elsewhere.
  void Move(RunRef ref, bool to_archive);

  bool Knows(KeyScope scope) const { return accounts_.contains(scope); }
  // False too if the run is not known.
  bool InArchive(RunRef ref) const;
  // 0 if the context is not known.
  uint64_t RunBytes(KeyScope scope) const;
  // The first run at L3 from `from` on, by context and position; O(log contexts),
  // and what is archived in between.
  std::optional<RunRef> NextAtL3(RunRef from) const;

  const RunShare& l3() const { return l3_; }
  const RunShare& archive() const { return archive_; }

 private:
  struct Account {
    uint64_t run_bytes = 0;
    uint64_t runs = 0;
    std::vector<uint64_t> archived;  // of each range
  };
  static bool Bit(const Account& account, uint64_t run) {
    return ((account.archived[run / kRunsPerRange] >> (run % kRunsPerRange)) & 1) != 0;
  }
  void Count(const Account& account, bool add);

  std::map<KeyScope, Account> accounts_;
  RunShare l3_, archive_;
};

}  // namespace mnemo
