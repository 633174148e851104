// One line on a terminal about work that takes long.
#pragma once

#include <ostream>
#include <string>

#include "storage/base/clock.h"

namespace mnemo::cli {

// Draws percent, bytes and time left from half a second on, ten times a second
// at most, and clears its line when it ends. Not thread-safe.
class Progress {
 public:
  // Draws on `out`; nowhere if that is null. `bytes_each` 0: steps without bytes.
  Progress(std::ostream* out, const Clock& clock, std::string what, uint64_t steps,
           uint64_t bytes_each);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // So many steps are done now.
  void Update(uint64_t done);

 private:
  std::ostream* const out_;
  const Clock& clock_;
  const std::string what_;
  const uint64_t steps_;
  const uint64_t bytes_each_;
  const MonoTime start_;
  MonoTime next_draw_;
  bool drawn_ = false;
};

}  // namespace mnemo::cli
