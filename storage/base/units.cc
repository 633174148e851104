#include "storage/base/units.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <span>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr Unit kByteUnits[] = {
    {"B", 1},     {"KiB", 1024}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"TiB", 1099511627776.0},
    {"KB", 1e3},  {"MB", 1e6},   {"GB", 1e9},        {"TB", 1e12},          {"", 1}};
constexpr Unit kTimeUnits[] = {{"ns", 1},    {"us", 1e3},     {"ms", 1e6},      {"s", 1e9},
                               {"m", 60e9},  {"h", 3600e9},   {"d", 86400e9}};

// Splits "1.5 GiB" into its number, scaled by the unit. `largest` bounds the
// result, so that the caller's integer cannot overflow.
absl::StatusOr<double> ParseScaled(std::string_view text, std::span<const Unit> units,
                                   double largest, std::string_view expected) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  std::string_view unit(rest, static_cast<size_t>(end - rest));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  if (error == std::errc() && std::isfinite(number) && number >= 0) {
    for (const Unit& candidate : units) {
      if (candidate.name == unit && number * candidate.factor <= largest) {
        return number * candidate.factor;
      }
    }
  }
  return absl::InvalidArgumentError(fmt::format("'{}' is not {}", text, expected));
}

std::string FormatScaled(double value, std::span<const Unit> units) {
  const Unit* best = &units.front();
  for (const Unit& unit : units) {
    if (value >= unit.factor && unit.factor > best->factor) best = &unit;
  }
  const std::string number = fmt::format("{:.2f}", value / best->factor);
  std::string_view trimmed = number;
  while (trimmed.back() == '0') trimmed.remove_suffix(1);
  if (trimmed.back() == '.') trimmed.remove_suffix(1);
  return fmt::format("{} {}", trimmed, best->name);
}

}  // namespace

absl::StatusOr<uint64_t> ParseByteSize(std::string_view text) {
  MNEMO_ASSIGN_OR_RETURN(const double bytes,
                         ParseScaled(text, kByteUnits, 9e18, "a size such as 8GiB or 512MiB"));
  return static_cast<uint64_t>(bytes);
}

absl::StatusOr<std::chrono::nanoseconds> ParseDuration(std::string_view text) {
  if (text == "0") return std::chrono::nanoseconds(0);
  MNEMO_ASSIGN_OR_RETURN(const double nanos,
                         ParseScaled(text, kTimeUnits, 9e18, "a time such as 500ms, 10s or 2h"));
  return std::chrono::nanoseconds(static_cast<int64_t>(nanos));
}

std::string FormatByteSize(uint64_t bytes) {
  return FormatScaled(static_cast<double>(bytes), std::span(kByteUnits).first(5));
}

std::string FormatDuration(std::chrono::nanoseconds duration) {
  return FormatScaled(static_cast<double>(duration.count()), kTimeUnits);
}

}  // namespace mnemo
