// What the upkeep of contexts has done, and what it found: for metrics.
#pragma once

#include <cstdint>

namespace mnemo {

// Runs of 2,048 tokens, and the bytes of their embeddings as stored.
struct RunShare {
  uint64_t runs = 0;
  uint64_t bytes = 0;
};

// At one moment. What adds up: the runs of both levels are the whole runs of all
// contexts, once `sweeping` is false and `waiting` 0.
struct ContextUpkeepFigures {
  uint64_t waiting = 0;  // contexts to be looked at
  bool sweeping = true;  // not all contexts were seen since the start
  RunShare l3;           // whole runs, by where their embeddings lie
  RunShare archive;
  uint64_t l3_capacity_bytes = 0;
  bool full = false;  // appends are refused: neither level has room
  uint64_t refused_appends = 0;
  uint64_t summaries = 0;       // written since the start, as all that follows
  uint64_t demoted = 0;         // runs
  uint64_t promoted = 0;        // runs
  uint64_t bytes = 0;           // of embeddings, read for summaries or moved
  uint64_t damaged_chunks = 0;  // left out of summaries
  uint64_t failures = 0;
};

}  // namespace mnemo
