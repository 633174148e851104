#include "client/cli/progress.h"

#include <fmt/format.h>

#include "storage/base/units.h"

namespace mnemo::cli {
namespace {

// What is over sooner needs no line.
constexpr Nanos kPatience = std::chrono::milliseconds(500);
constexpr Nanos kBetweenDraws = std::chrono::milliseconds(100);
constexpr char kClearLine[] = "\r\033[K";

}  // namespace

Progress::Progress(std::ostream* out, const Clock& clock, std::string what, uint64_t steps,
                   uint64_t bytes_each)
    : out_(out),
      clock_(clock),
      what_(std::move(what)),
      steps_(steps),
      bytes_each_(bytes_each),
      start_(clock.Mono()),
      next_draw_(start_ + kPatience) {}

Progress::~Progress() {
  if (drawn_) *out_ << kClearLine << std::flush;
}

void Progress::Update(uint64_t done) {
  const MonoTime now = clock_.Mono();
  if (out_ == nullptr || now < next_draw_ || done == 0) return;
  next_draw_ = now + kBetweenDraws;
  drawn_ = true;
  const double rest = static_cast<double>(steps_ - done) / static_cast<double>(done);
  const double left = std::chrono::duration<double>(now - start_).count() * rest;
  std::string line = fmt::format("{}  {} %", what_, done * 100 / steps_);
  if (bytes_each_ != 0) {
    line += fmt::format("  {} of {}", FormatByteSize(done * bytes_each_),
                        FormatByteSize(steps_ * bytes_each_));
  }
  *out_ << kClearLine << line << fmt::format("  {:.0f} s left", left) << std::flush;
}

}  // namespace mnemo::cli
