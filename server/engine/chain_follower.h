// Chains that are read from disk are brought into RAM ahead of their readers.
#pragma once

#include "server/engine/prefetch_queue.h"
#include "storage/block/block_store.h"

namespace mnemo {

// Thread-safe. As the kernel reads files ahead: the last part of a call that comes from
// disk brings up the parts that follow it, and each of those moves the end of what is
// brought up by one when it is read. Nothing where queue.options().follow_blocks is 0.
class ChainFollower {
 public:
  // Both outlive it.
  ChainFollower(const BlockStore& store, PrefetchQueue& queue) : store_(store), queue_(queue) {}

  // `read` is of part `key`; `last`: its call names no block behind it. O(follow_blocks)
  // look-ups where the disk was read, otherwise none.
  void OnRead(const PartKey& key, const PartRead& read, bool last);

 private:
  const BlockStore& store_;
  PrefetchQueue& queue_;
};

}  // namespace mnemo
