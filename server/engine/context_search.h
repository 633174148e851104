// Finds what is near in contexts: filters, segments, and what a hit tells.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/context_engine.h"
#include "server/engine/context_range_cache.h"
#include "storage/context/context_reader.h"

namespace mnemo {

// Borrows all. Thread-safe. A search sees every token that was acknowledged
// before it began.
class ContextSearcher {
 public:
  ContextSearcher(const ContextReader& reader, ContextRangeCache& ranges, const Clock& clock,
                  const Kernels& kernels)
      : reader_(reader), ranges_(ranges), clock_(clock), kernels_(kernels) {}

  // Over `contexts`, at most kMaxContextsPerSearch, each once and of the
  // request's dimension. Errors: kInvalidArgument (a field is out of its range, a
  // query is not finite, metrics differ), kCancelled, kDeadlineExceeded, the
  // store's.
  absl::StatusOr<ContextSearchAnswer> Search(const CallContext& call,
                                             const ContextSearchRequest& request,
                                             const std::vector<ContextRecord>& contexts) const;

 private:
  class Run;

  const ContextReader& reader_;
  ContextRangeCache& ranges_;
  const Clock& clock_;
  const Kernels& kernels_;
};

}  // namespace mnemo
