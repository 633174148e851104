// Finds what is near in contexts: filters, segments, and what a hit tells.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/context_engine.h"
#include "server/engine/context_row_cache.h"
#include "storage/context/context_reader.h"

namespace mnemo {

// Borrows all. Thread-safe. A search sees every token that was acknowledged
// before it began.
class ContextSearcher {
 public:
  ContextSearcher(const ContextReader& reader, ContextRowCache& rows, const Clock& clock,
                  const Kernels& kernels)
      : reader_(reader), rows_(rows), clock_(clock), kernels_(kernels) {}

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
  ContextRowCache& rows_;
  const Clock& clock_;
  const Kernels& kernels_;
};

}  // namespace mnemo
