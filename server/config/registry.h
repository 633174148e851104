// The table of settings: name, type, default, range, meaning, and the field of
// Config that each sets.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "storage/base/clock.h"

namespace mnemo {

struct Config;

// How "derived from the machine" is written.
inline constexpr std::string_view kAutoText = "auto";

// A text that names an address to listen on; empty: "off".
struct AddressField {
  std::string& (*of)(Config&);
  bool is_http = false;  // may be "off"; IPv4 only, as the HTTP library has no more
};
// The path of a UNIX socket; empty: "off"; "auto" until derived.
struct SocketField {
  std::string& (*of)(Config&);
};
struct TextField {
  std::string& (*of)(Config&);
};
// One of Setting::choices.
struct ChoiceField {
  std::string& (*of)(Config&);
};
struct SizeField {
  uint64_t& (*of)(Config&);
};
struct DurationField {
  Nanos& (*of)(Config&);
};
struct IntegerField {
  int64_t& (*of)(Config&);
};
struct RealField {
  double& (*of)(Config&);
};
struct BooleanField {
  bool& (*of)(Config&);
};
using SettingField = std::variant<TextField, AddressField, SocketField, ChoiceField, SizeField,
                                  DurationField, IntegerField, RealField, BooleanField>;

struct Setting {
  std::string_view key;  // "memory.total"
  SettingField field;
  std::string_view default_text;  // as it would be written; "auto": derived
  std::string_view minimum = {};  // as written, inclusive; numbers, sizes, times
  std::string_view maximum = {};
  std::vector<std::string_view> choices = {};
  std::string_view description = {};
  bool has_flag = false;  // a flag of its own, beside --set
  bool secret = false;    // never shown

  // "--memory-total"
  std::string FlagName() const;
  // "MNEMO_MEMORY_TOTAL"
  std::string EnvironmentName() const;
  // "size", "duration", ... for people.
  std::string_view TypeName() const;
  // "64MiB to 16TiB", "json or text"; empty if anything goes.
  std::string Range() const;
};

// All settings, sorted by key.
const std::vector<Setting>& ConfigRegistry();

const Setting* FindSetting(const std::vector<Setting>& registry, std::string_view key);

// Parses `text` into the setting's field. Errors: kInvalidArgument, naming the
// key and the allowed range.
absl::Status AssignSetting(const Setting& setting, std::string_view text, Config& config);

// The field's value as it would be written; reading it back gives the same
// value. Masked if secret and not empty.
std::string WriteSetting(const Setting& setting, const Config& config);

// The known name nearest to `name`, or empty if none is near: at most a third
// of its letters, and at least two, may differ.
std::string NearestName(std::string_view name, const std::vector<std::string>& known);

}  // namespace mnemo
