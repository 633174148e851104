// Embeddings in RAM: level L1 of contexts.
#pragma once

#include "storage/context/chunk.h"
#include "storage/context/context_lru.h"

namespace mnemo {

// By the number of the group of rows (ContextSpec::group_tokens). They never
// change.
class ChunkCache : public ContextLru<ChunkRows> {
 public:
  using RowsPtr = Ptr;
  using ContextLru::ContextLru;
};

}  // namespace mnemo
