// Which memory of this process a daemon may reach.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "mnemo/memory.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

// Thread-safe. Outlives its memory.
class MemoryRegistry {
 public:
  // A memfd, sealed and mapped, with all its pages. Errors: kInvalidArgument (0 bytes),
  // kResourceExhausted.
  absl::StatusOr<std::unique_ptr<SharedMemory>> Allocate(size_t bytes);
  // `mapped` is all of the file from its beginning; the caller keeps both.
  // Errors: kInvalidArgument (empty), kResourceExhausted (descriptors).
  absl::StatusOr<std::unique_ptr<SharedMemory>> Adopt(int descriptor, MutableBytes mapped);

  // Where bytes lie in memory that is registered, if all of them do.
  struct Place {
    uint64_t memory = 0;  // never given twice
    int descriptor = -1;
    uint64_t bytes = 0;  // of the memory
    uint64_t offset = 0;
  };
  std::optional<Place> Find(Bytes bytes) const;
  // Called with the id of memory that is about to go, without a lock. Before any is
  // there.
  void OnRemove(std::function<void(uint64_t)> removed) { removed_ = std::move(removed); }
  bool empty() const;

 private:
  friend class SharedMemory;
  std::unique_ptr<SharedMemory> Add(MutableBytes bytes, int descriptor, bool mapped);
  void Remove(const SharedMemory& memory);

  struct Entry {
    uint64_t id = 0;
    int descriptor = -1;
    size_t size = 0;
  };
  std::function<void(uint64_t)> removed_;
  mutable Mutex mutex_;
  std::map<const uint8_t*, Entry> memory_ ABSL_GUARDED_BY(mutex_);  // by its beginning
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace mnemo::client
