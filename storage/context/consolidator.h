// Makes the summaries of contexts, chunk by chunk behind the appends.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/context/context_store.h"

namespace mnemo {

// Thread-safe; two steps of one context at once do the same work twice. How far
// it is lies in the store, in the summaries' own batch: killed at any moment, it
// goes on. Borrows all.
class Consolidator {
 public:
  Consolidator(ContextStore& contexts, const Clock& clock) : contexts_(contexts), clock_(clock) {}

  // Summarises at most 16 chunks that are complete and have no summary. What
  // would be of a damaged chunk is left out, for good. `more`: whether others are
  // left. Errors: kNotFound (deleted), kDataLoss (of what is no chunk), and those
  // of Store.
  struct Progress {
    uint32_t summaries = 0;       // written by this step
    uint32_t damaged_chunks = 0;  // left out by this step
    absl::Status damage;          // of the first of them
    uint64_t bytes_read = 0;      // of embeddings, as stored
    bool more = false;
  };
  absl::StatusOr<Progress> Step(const ContextRecord& context);

 private:
  ContextStore& contexts_;
  const Clock& clock_;
};

}  // namespace mnemo
