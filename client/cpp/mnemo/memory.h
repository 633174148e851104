// Memory that a daemon on the same host copies blocks out of and into, without a
// socket between.
//
//   auto memory = *client->AllocateShared(64 << 20);
//   Destination to{.memory = memory->bytes().first(size)};
//
// A Get whose destinations, and a Put whose payload, lie in such memory travel by the
// fast lane, unless ClientOptions.plane says otherwise.
#pragma once

#include <cstddef>
#include <memory>

#include "mnemo/types.h"

namespace mnemo::client {

// The way that bytes take. kInline: in gRPC messages. kFast: a socket of the daemon's
// host, with payload through shared memory. kBulk: TCP streams with the payload in them.
enum class Plane { kInline = 1, kFast = 2, kBulk = 3 };

// What a call may choose from: kAuto takes the best that can carry it.
enum class PlaneChoice { kDefault = 0, kInline = 1, kFast = 2, kAuto = 3, kBulk = 4 };

class MemoryRegistry;

// Thread-safe. Outlives the calls that use it, and must not outlive its client. The
// daemon can reach it until this is gone.
class SharedMemory {
 public:
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // Page-aligned; an engine may pin it.
  MutableBytes bytes() const { return bytes_; }

 private:
  friend class MemoryRegistry;
  SharedMemory(MemoryRegistry& registry, MutableBytes bytes, int descriptor, bool mapped)
      : registry_(registry), bytes_(bytes), descriptor_(descriptor), mapped_(mapped) {}

  MemoryRegistry& registry_;
  const MutableBytes bytes_;
  const int descriptor_;  // ours
  const bool mapped_;     // by us
};

}  // namespace mnemo::client
