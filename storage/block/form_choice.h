// Which of two forms that qualify a group's parts take, by what one part of it gave.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "storage/base/bytes.h"
#include "storage/base/clock.h"
#include "storage/base/units.h"
#include "storage/codec/envelope.h"
#include "storage/codec/section_decoder.h"

namespace mnemo {

// The transform form takes at most so many bytes more than the other one: codes of content that
// the calibration has not seen are larger than they are named for.
inline constexpr double kMostBytesOfAxes = 1.25;
// And decodes at least so many exact bytes a second.
inline constexpr double kLeastDecodeRate = 32.0 * kMiB;

// What a part gave in one form.
struct FormTrial {
  double bits_per_value = 0;  // all that is stored
  double error = 0;           // |x' - x| / |x|
};

// Whether the form with axes, of which `decode_rate` exact bytes a second are decoded, is better:
// within the bounds above, and of less error than the other one would have if it had as many
// bits, each of which halves the error.
bool AreAxesBetter(const FormTrial& without, const FormTrial& with_axes, double decode_rate);

// Exact bytes a second at which `encoded`, an envelope, is decoded by `decoder`: the best of some
// tries, of which the first that is at least kLeastDecodeRate is the last, since a thread may be
// held up. Infinite where the clock saw no time pass. Errors: kDataLoss.
absl::StatusOr<double> DecodeRateOf(ByteView encoded, SectionDecoder& decoder, const Clock& clock);

// What `encoded`, an envelope of which some section is lossy, gives. Looks at no payload byte.
// Errors: kDataLoss.
absl::StatusOr<FormTrial> TrialOf(ByteView encoded);

}  // namespace mnemo
