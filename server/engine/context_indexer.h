// Builds the sealed segments of contexts behind their appends.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "index/vector/segment_set.h"
#include "server/engine/call.h"
#include "server/engine/context_range_cache.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"
#include "storage/context/context_segments.h"
#include "storage/context/context_store.h"

namespace mnemo {

struct ContextIndexerOptions {
  // Behaviour: contexts of at most so many tokens get graphs (HNSW), longer ones
  // lists (IVF): at dimension 256 some 400 and some 54 bytes a token.
  uint64_t graph_tokens = kRangeTokens;
  // Speed: embeddings that a build takes into RAM at once, at least a run of
  // 16,384; what is more is sealed in several steps and then made one.
  uint64_t build_bytes = uint64_t{128} << 20;
};

// What a build did; all since the start.
struct ContextIndexerFigures {
  uint64_t builds = 0;         // published
  uint64_t rows = 0;           // in those
  Nanos build_time{0};         // for those, storing included
  uint64_t cancelled = 0;      // builds given up for a better one, a deletion or the end
  uint64_t failed = 0;         // builds that failed
  uint64_t load_failures = 0;  // ranges whose stored segments could not be used
  uint64_t waiting = 0;        // ranges to be looked at, now
};

// Thread-safe; Step from one thread at a time. What is stored is all it knows
// beside which ranges to look at, and those a sweep over all contexts finds
// again after a start: killed at any moment, it goes on. A context of fewer than
// two runs of 16,384 tokens is left flat. Borrows all.
//
// A build never holds up an append or a search, but for the moments in which it
// stores 256 KiB under the lock of the context.
class ContextIndexer {
 public:
  ContextIndexer(ContextStore& contexts, ContextSegments& segments, ContextRangeCache& ranges,
                 const Clock& clock, const Kernels& kernels, const ContextIndexerOptions& options)
      : contexts_(contexts),
        segments_(segments),
        ranges_(ranges),
        clock_(clock),
        kernels_(kernels),
        options_(options) {}

  // Tokens [first, end) of the context were stored. Cheap where they fill no run.
  void Note(const ContextRecord& context, uint64_t first, uint64_t end);
  // Stored segments of the range cannot be used: they are built again.
  void NoteDamage(const ContextRecord& context, uint64_t range);
  // The context was deleted: nothing more is built for it.
  void Forget(uint64_t context_id);

  // Looks at some contexts or at one range, and builds what that wants. Returns
  // whether there is more to do now. Errors: of the build, naming its context; the
  // range is looked at again after a minute, and after each further failure
  // twice as long, an hour at most, whatever is noted of it meanwhile.
  absl::StatusOr<bool> Step();
  // Gives up a build in progress; from now on Step does nothing.
  void Stop();

  ContextIndexerFigures figures() const;

 private:
  using Key = std::pair<uint64_t, uint64_t>;  // context id, range
  struct Work {
    ContextRecord context;
    uint64_t range = 0;
    bool damaged = false;
  };
  struct Failures {
    uint32_t count = 0;
    MonoTime not_before{};
  };
  // The build in progress.
  struct Current {
    uint64_t context_id = 0;
    bool graph = false;  // what it becomes
    bool forgotten = false;
    CallContext call;
  };

  void Add(Work work, bool full) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteTokens(const ContextRecord& context, uint64_t first, uint64_t end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What `current` is to do. Full ranges first: sealed once, they are done.
  std::optional<Work> Take(Current& current);
  // Whether it failed so short a time ago that it is left alone.
  bool Rests(const Key& key) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddAfterFailure(Work work) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Sweep();
  // The policy for a context of so many tokens, of these rows.
  SealPolicy PolicyFor(const ContextRecord& context, uint64_t tokens) const;
  uint32_t RunsAtOnce(const ContextRecord& context) const;
  // What is stored of a range; empty where that cannot be used.
  absl::StatusOr<SegmentRecord> ReadRecord(const Work& work, bool& damaged);
  // Whether another build of the range is wanted.
  absl::StatusOr<bool> Look(const Work& work, Current& current);
  absl::StatusOr<bool> Build(const Work& work, const SegmentRecord& record, uint32_t rows,
                             const SealPolicy& policy, Current& current);
  absl::Status Publish(const Work& work, const SegmentRecord& record, const BuildTask& task,
                       std::unique_ptr<SealedSegment> segment, SegmentSet& set,
                       const CallContext& call);

  ContextStore& contexts_;
  ContextSegments& segments_;
  ContextRangeCache& ranges_;
  const Clock& clock_;
  const Kernels& kernels_;
  const ContextIndexerOptions options_;

  mutable Mutex mutex_;  // never across the store or a build
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<Key, Work> full_ ABSL_GUARDED_BY(mutex_);
  std::map<Key, Work> part_full_ ABSL_GUARDED_BY(mutex_);
  std::map<Key, Failures> failed_ ABSL_GUARDED_BY(mutex_);  // the last time
  Current* current_ ABSL_GUARDED_BY(mutex_) = nullptr;
  ContextIndexerFigures figures_ ABSL_GUARDED_BY(mutex_);
  // Of the thread that steps.
  bool swept_ = false;
  std::string sweep_cursor_;
};

}  // namespace mnemo
