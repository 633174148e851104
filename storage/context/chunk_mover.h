// Moves the embeddings of cold chunks to the archive, and hot ones back.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "storage/context/context_store.h"

namespace mnemo {

// Thread-safe. A move copies, syncs, and then deletes; the bytes stay as they
// are, and so does all else of a chunk. Killed at any moment, each chunk is at
// one of both places, and another move goes on. Borrows all.
class ChunkMover {
 public:
  explicit ChunkMover(ContextStore& contexts) : contexts_(contexts) {}

  // Run `run` of the context (positions from run x 2,048). No-ops where it lies
  // there already. What is demoted begins anew to count its uses: those at
  // another level do not bring it back. Errors: kNotFound (deleted), kFailedPrecondition (there is
  // no archive), kOutOfRange (the run is not complete), kDataLoss, Store's.
  absl::Status Demote(const ContextRecord& context, uint64_t run);
  absl::Status Promote(const ContextRecord& context, uint64_t run);

 private:
  absl::Status Move(const ContextRecord& context, uint64_t run, bool to_archive);

  ContextStore& contexts_;
};

}  // namespace mnemo
