// The threads that move parts between levels.
#pragma once

#include <cstddef>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"
#include "storage/block/block_store.h"

namespace mnemo {

struct MoverPoolOptions {
  // Behaviour. 1 to 16. Writers that find no room move parts themselves, so one
  // thread is enough to keep room in advance.
  size_t threads = 1;
  // Speed: the share of its time that a thread works while there is work; what
  // is left belongs to calls. (0, 1].
  double duty = 0.5;
  // Speed: the longest pause between looks when nothing calls for one. 10 ms to
  // 60 s. Leases, expiry and a full disk are looked after this often.
  Nanos idle_wait = std::chrono::seconds(1);

  // Errors: kInvalidArgument, naming field and range.
  absl::Status Validate() const;
};

// Runs BlockStore::MoveStep from construction until Stop. Steps are bounded and
// leave the store whole, so that stopping between two of them loses nothing and
// a later pool goes on. Thread-safe.
class MoverPool {
 public:
  // `options` are valid; `store` outlives the pool.
  MoverPool(BlockStore& store, const MoverPoolOptions& options);
  // Stops.
  ~MoverPool();
  MoverPool(const MoverPool&) = delete;
  MoverPool& operator=(const MoverPool&) = delete;

  // Returns when every thread has ended its step. Idempotent.
  void Stop();

 private:
  void Run();
  // Rests for the share of time that is not ours; false if stopping.
  bool Rest(Nanos worked);
  bool stopping() const;

  BlockStore& store_;
  const MoverPoolOptions options_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  Mutex joining_;  // before mutex_
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(joining_);
};

}  // namespace mnemo
