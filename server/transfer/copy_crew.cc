#include "server/transfer/copy_crew.h"

#include <algorithm>
#include <memory>
#include <thread>

#include "storage/base/mutex.h"

namespace mnemo {
namespace {

// Fewer pieces are copied before a helper has woken up.
constexpr size_t kLeastPieces = 4;
constexpr size_t kMostHelpers = 3;

}  // namespace

// Shared, since a helper may come to it when all is done and its owner gone: then it
// takes nothing, and looks at `work` no more.
struct CopyCrew::Job {
  Job(size_t pieces, const std::function<void(size_t)>& each) : count(pieces), work(each) {}

  // Takes pieces until none is left.
  void Work() {
    for (;;) {
      size_t piece = 0;
      {
        MutexLock lock(mutex);
        if (next == count) return;
        piece = next++;
        ++running;
      }
      work(piece);
      MutexLock lock(mutex);
      if (--running == 0 && next == count) ended.SignalAll();
    }
  }

  void Await() {
    MutexLock lock(mutex);
    while (running > 0) ended.Wait(mutex);
  }

  const size_t count;
  const std::function<void(size_t)>& work;
  Mutex mutex;
  CondVar ended;
  size_t next ABSL_GUARDED_BY(mutex) = 0;
  size_t running ABSL_GUARDED_BY(mutex) = 0;
};

size_t CopyCrew::HelpersOfThisMachine() {
  const size_t cores = std::max(1u, std::thread::hardware_concurrency());
  return std::min(cores - 1, kMostHelpers);
}

CopyCrew::CopyCrew(size_t helpers)
    : helpers_(helpers),
      executor_({.name = "copy-crew",
                 .threads = std::max<size_t>(helpers, 1),
                 .max_queued = std::max<size_t>(helpers, 1)}) {}

void CopyCrew::ForEach(size_t count, const std::function<void(size_t)>& work) {
  if (helpers_ == 0 || count < kLeastPieces || busy_.exchange(true)) {
    for (size_t i = 0; i < count; ++i) work(i);
    return;
  }
  const auto job = std::make_shared<Job>(count, work);
  for (size_t i = 0; i < std::min(helpers_, count - 1); ++i) {
    // A queue that is full holds helpers that have not woken up yet.
    if (!executor_.TrySubmit([job] { job->Work(); })) break;
  }
  job->Work();
  job->Await();
  busy_ = false;
}

}  // namespace mnemo
