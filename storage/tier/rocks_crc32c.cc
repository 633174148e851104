#include "storage/tier/rocks_crc32c.h"

#include <dlfcn.h>

#include "storage/base/crc32c.h"

namespace rocksdb::crc32c {

uint32_t Extend(uint32_t crc, const char* data, size_t size) {
  return mnemo::ExtendCrc32c(crc, {reinterpret_cast<const uint8_t*>(data), size});
}

}  // namespace rocksdb::crc32c

namespace mnemo {

bool RocksCallsOurCrc32c() {
  // The first of that name, in the order in which the linker looks for it.
  return dlsym(RTLD_DEFAULT, "_ZN7rocksdb6crc32c6ExtendEjPKcm") ==
         reinterpret_cast<void*>(&rocksdb::crc32c::Extend);
}

}  // namespace mnemo
