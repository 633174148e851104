// Plain memory for the large arrays of a sealed segment.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <type_traits>

#include "storage/base/status_macros.h"

namespace mnemo {

// `size` values of T, zero at first, at a multiple of 64 bytes. Large ones lie
// in huge pages where the system gives them: a graph search touches one page a
// step, and with 4 KiB pages most steps miss the TLB. Not thread-safe.
template <typename T>
class AlignedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  AlignedArray() = default;
  explicit AlignedArray(size_t size) : size_(size) {
    if (size == 0) return;
    const size_t alignment = bytes() >= kHugePage ? kHugePage : 64;
    const size_t rounded = (bytes() + alignment - 1) / alignment * alignment;
    data_.reset(static_cast<T*>(std::aligned_alloc(alignment, rounded)));
    MNEMO_CHECK(data_ != nullptr);
    // Only advice: without huge pages it is slower, not wrong.
    if (alignment == kHugePage) ::madvise(data_.get(), rounded, MADV_HUGEPAGE);
    std::memset(static_cast<void*>(data_.get()), 0, rounded);
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T& operator[](size_t i) { return data_.get()[i]; }
  const T& operator[](size_t i) const { return data_.get()[i]; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
  struct Free {
    void operator()(T* data) const { std::free(data); }
  };
  std::unique_ptr<T, Free> data_;
  size_t size_ = 0;
};

}  // namespace mnemo
