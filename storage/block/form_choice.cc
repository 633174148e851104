#include "storage/block/form_choice.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "storage/base/pinned_bytes.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr int kMostTries = 8;

}  // namespace

bool AreAxesBetter(const FormTrial& without, const FormTrial& with_axes, double decode_rate) {
  if (with_axes.bits_per_value > kMostBytesOfAxes * without.bits_per_value) return false;
  if (decode_rate < kLeastDecodeRate) return false;
  const double more_bits = with_axes.bits_per_value - without.bits_per_value;
  return with_axes.error * std::exp2(more_bits) < without.error;
}

absl::StatusOr<double> DecodeRateOf(ByteView encoded, SectionDecoder& decoder, const Clock& clock) {
  const PinnedBytes value({encoded}, nullptr);
  MNEMO_ASSIGN_OR_RETURN(const Envelope envelope, Envelope::Parse(value));
  std::vector<uint8_t> exact;
  double best = 0;
  for (int i = 0; i < kMostTries && best < kLeastDecodeRate; ++i) {
    const MonoTime begin = clock.Mono();
    for (uint32_t section = 0; section < envelope.section_count(); ++section) {
      exact.resize(envelope.sections()[section].exact_bytes);
      MNEMO_RETURN_IF_ERROR(envelope.DecodeSection(section, value, decoder, exact));
    }
    const double seconds = std::chrono::duration<double>(clock.Mono() - begin).count();
    const auto bytes = static_cast<double>(envelope.payload_bytes());
    best = std::max(best, seconds > 0 ? bytes / seconds : std::numeric_limits<double>::infinity());
  }
  return best;
}

absl::StatusOr<FormTrial> TrialOf(ByteView encoded) {
  MNEMO_ASSIGN_OR_RETURN(const Envelope envelope, Envelope::Parse(encoded));
  return FormTrial{.bits_per_value = envelope.bits_per_value(), .error = envelope.error()};
}

}  // namespace mnemo
