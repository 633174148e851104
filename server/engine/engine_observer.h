// What the engine tells metrics. Implemented by server/observe.
#pragma once

#include <cstdint>

#include "storage/base/clock.h"
#include "storage/tier/block_level.h"

namespace mnemo {

// Thread-safe; called on hot paths, so it neither blocks nor allocates.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  // A match of `tokens` tokens, of which those lying at each level were hit.
  virtual void OnMatch(uint64_t tokens, const uint64_t (&hit_tokens)[kLevelCount]) = 0;
  // One part read at `level`, from decoded request to bytes in hand.
  virtual void OnRead(Level level, uint64_t bytes, Nanos took) = 0;
  virtual void OnMiss() = 0;
  virtual void OnCorruption(Level level) = 0;
};

// For tests and tools that watch nothing.
class NullEngineObserver final : public EngineObserver {
 public:
  void OnMatch(uint64_t, const uint64_t (&)[kLevelCount]) override {}
  void OnRead(Level, uint64_t, Nanos) override {}
  void OnMiss() override {}
  void OnCorruption(Level) override {}
};

}  // namespace mnemo
