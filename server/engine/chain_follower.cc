#include "server/engine/chain_follower.h"

#include <vector>

namespace mnemo {

void ChainFollower::OnRead(const PartKey& key, const PartRead& read, bool last) {
  const size_t blocks = queue_.options().follow_blocks;
  if (blocks == 0) return;
  const bool from_disk = read.level == Level::kL3 || read.level == Level::kDisk;
  // What a call names itself it reads itself.
  if (!read.followed && !(from_disk && last)) return;
  const std::vector<BlockStore::ChainPart> chain = store_.Following(key, blocks);
  // All but the one at the far end were taken care of when its predecessors were read.
  if (read.followed && chain.size() < blocks) return;
  std::vector<PrefetchQueue::Part> wanted;
  for (size_t i = read.followed ? blocks - 1 : 0; i < chain.size(); ++i) {
    if (!chain[i].in_ram) wanted.push_back({.key = chain[i].key, .bytes = chain[i].payload_bytes});
  }
  queue_.Add(wanted, PrefetchOrigin::kFollowed);
}

}  // namespace mnemo
