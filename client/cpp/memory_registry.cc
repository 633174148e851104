#include "client/cpp/memory_registry.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "storage/base/descriptor.h"

namespace mnemo::client {
namespace {

absl::Status Failed(const char* what) {
  return absl::ResourceExhaustedError(std::string(what) + ": " + std::strerror(errno));
}

}  // namespace

SharedMemory::~SharedMemory() {
  registry_.Remove(*this);
  if (mapped_) ::munmap(bytes_.data(), bytes_.size());
  ::close(descriptor_);
}

absl::StatusOr<std::unique_ptr<SharedMemory>> MemoryRegistry::Allocate(size_t bytes) {
  if (bytes == 0) return absl::InvalidArgumentError("bytes is 0; it must be at least 1");
  Descriptor file(::memfd_create("mnemo", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid()) return Failed("memfd_create");
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) return Failed("ftruncate");
  // Whoever maps it need not fear that it ends somewhere else.
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return Failed("seals");
  }
  // The daemon writes to no hole: its pages would be charged to the daemon.
  if (const int error = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes)); error != 0) {
    errno = error;
    return Failed("fallocate");
  }
  void* const mapped =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file.get(), 0);
  if (mapped == MAP_FAILED) return Failed("mmap");
  return Add({static_cast<uint8_t*>(mapped), bytes}, file.Release(), /*mapped=*/true);
}

absl::StatusOr<std::unique_ptr<SharedMemory>> MemoryRegistry::Adopt(int descriptor,
                                                                    MutableBytes mapped) {
  if (mapped.empty()) return absl::InvalidArgumentError("mapped holds no bytes");
  const int own = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return Failed("dup");
  return Add(mapped, own, /*mapped=*/false);
}

std::unique_ptr<SharedMemory> MemoryRegistry::Add(MutableBytes bytes, int descriptor, bool mapped) {
  std::unique_ptr<SharedMemory> memory(new SharedMemory(*this, bytes, descriptor, mapped));
  MutexLock lock(mutex_);
  memory_[bytes.data()] = {.id = next_++, .descriptor = descriptor, .size = bytes.size()};
  return memory;
}

void MemoryRegistry::Remove(const SharedMemory& memory) {
  uint64_t id = 0;
  {
    MutexLock lock(mutex_);
    const auto found = memory_.find(memory.bytes().data());
    id = found->second.id;
    memory_.erase(found);
  }
  if (removed_) removed_(id);
}

std::optional<MemoryRegistry::Place> MemoryRegistry::Find(Bytes bytes) const {
  MutexLock lock(mutex_);
  auto found = memory_.upper_bound(bytes.data());
  if (found == memory_.begin()) return std::nullopt;
  --found;
  const auto& [begin, entry] = *found;
  const auto offset = static_cast<size_t>(bytes.data() - begin);
  if (offset > entry.size || bytes.size() > entry.size - offset) return std::nullopt;
  return Place{
      .memory = entry.id, .descriptor = entry.descriptor, .bytes = entry.size, .offset = offset};
}

bool MemoryRegistry::empty() const {
  MutexLock lock(mutex_);
  return memory_.empty();
}

}  // namespace mnemo::client
