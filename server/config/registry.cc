#include "server/config/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "server/config/address.h"
#include "server/config/config.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

constexpr std::string_view kOff = "off";
// sizeof(sockaddr_un::sun_path), less its final zero.
constexpr size_t kLongestSocketPath = 107;
constexpr std::string_view kMask = "********";

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

absl::Status OutOfRange(const Setting& setting, std::string_view text) {
  return absl::InvalidArgumentError(
      fmt::format("{}: '{}' is not allowed; {}", setting.key, text, setting.Range()));
}

absl::Status Malformed(const Setting& setting, std::string_view text) {
  const std::string range = setting.Range();
  return absl::InvalidArgumentError(fmt::format("{}: '{}' is not a {}{}{}", setting.key, text,
                                                setting.TypeName(), range.empty() ? "" : "; ",
                                                range));
}

template <typename Number>
absl::StatusOr<Number> ParseNumber(std::string_view text) {
  Number number{};
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) return absl::InvalidArgumentError("not a number");
  if constexpr (std::is_floating_point_v<Number>) {
    if (!std::isfinite(number)) return absl::InvalidArgumentError("not a number");
  }
  return number;
}

// Parses by `parse`, and checks against the setting's bounds, which are parsed
// the same way.
template <typename Value, typename Parse>
absl::Status AssignBounded(const Setting& setting, std::string_view text, const Parse& parse,
                           Value& into) {
  const absl::StatusOr<Value> value = parse(text);
  if (!value.ok()) return Malformed(setting, text);
  if (!setting.minimum.empty()) {
    MNEMO_ASSIGN_OR_RETURN(const Value minimum, parse(setting.minimum));
    if (*value < minimum) return OutOfRange(setting, text);
  }
  if (!setting.maximum.empty()) {
    MNEMO_ASSIGN_OR_RETURN(const Value maximum, parse(setting.maximum));
    if (*value > maximum) return OutOfRange(setting, text);
  }
  into = *value;
  return absl::OkStatus();
}

absl::Status AssignBoolean(const Setting& setting, std::string_view text, bool& into) {
  if (text != "true" && text != "false") return Malformed(setting, text);
  into = text == "true";
  return absl::OkStatus();
}

absl::Status AssignAddress(const Setting& setting, std::string_view text, bool is_http,
                           std::string& into) {
  if (text == kOff && is_http) {
    into.clear();
    return absl::OkStatus();
  }
  const absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
  if (!address.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {}", setting.key, std::string(address.status().message())));
  }
  if (is_http && address->is_ipv6) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} is not allowed; allowed: an IPv4 address, or off", setting.key, text));
  }
  into = address->ToString();
  return absl::OkStatus();
}

absl::Status AssignText(const Setting& setting, std::string_view text, std::string& into) {
  if (std::any_of(text.begin(), text.end(),
                  [](unsigned char c) { return c < 0x20 || c == 0x7f; })) {
    return absl::InvalidArgumentError(
        fmt::format("{}: control characters are not allowed", setting.key));
  }
  if (text.empty() && !setting.default_text.empty()) {
    return absl::InvalidArgumentError(fmt::format("{}: must not be empty", setting.key));
  }
  into = text;
  return absl::OkStatus();
}

absl::Status AssignSocket(const Setting& setting, std::string_view text, std::string& into) {
  MNEMO_RETURN_IF_ERROR(AssignText(setting, text, into));
  if (into.size() > kLongestSocketPath) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: '{}' has {} bytes; allowed: a path of at most {}, which is what the kernel takes",
        setting.key, into, into.size(), kLongestSocketPath));
  }
  if (into == kOff) into.clear();
  return absl::OkStatus();
}

// The largest unit that gives a whole number, so that nothing is lost.
std::string WriteSize(uint64_t bytes) {
  if (bytes == kAutoSize) return std::string(kAutoText);
  constexpr std::pair<uint64_t, std::string_view> kUnits[] = {
      {kGiB * 1024, "TiB"}, {kGiB, "GiB"}, {kMiB, "MiB"}, {kKiB, "KiB"}};
  for (const auto& [factor, name] : kUnits) {
    if (bytes != 0 && bytes % factor == 0) return fmt::format("{}{}", bytes / factor, name);
  }
  return fmt::format("{}", bytes);
}

std::string WriteDuration(Nanos duration) {
  constexpr std::pair<int64_t, std::string_view> kUnits[] = {
      {86'400'000'000'000, "d"}, {3'600'000'000'000, "h"}, {60'000'000'000, "m"},
      {1'000'000'000, "s"},      {1'000'000, "ms"},        {1'000, "us"}};
  for (const auto& [factor, name] : kUnits) {
    if (duration.count() != 0 && duration.count() % factor == 0) {
      return fmt::format("{}{}", duration.count() / factor, name);
    }
  }
  return duration.count() == 0 ? "0" : fmt::format("{}ns", duration.count());
}

std::string OrOff(const std::string& text) { return text.empty() ? std::string(kOff) : text; }

std::string Join(const std::vector<std::string_view>& words, std::string_view last) {
  std::string joined;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) joined += i + 1 == words.size() ? last : std::string_view(", ");
    joined += words[i];
  }
  return joined;
}

// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1,
                             cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::string Setting::FlagName() const {
  std::string name = "--" + std::string(key);
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '.' || c == '_'; }, '-');
  return name;
}

std::string Setting::EnvironmentName() const {
  std::string name = "MNEMO_" + std::string(key);
  for (char& c : name) {
    if (c == '.') c = '_';
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return name;
}

std::string_view Setting::TypeName() const {
  return std::visit(Overloaded{[](const TextField&) { return "text"; },
                               [](const AddressField&) { return "listening address"; },
                               [](const SocketField&) { return "socket path"; },
                               [](const ChoiceField&) { return "choice"; },
                               [](const SizeField&) { return "size"; },
                               [](const DurationField&) { return "duration"; },
                               [](const IntegerField&) { return "whole number"; },
                               [](const RealField&) { return "number"; },
                               [](const BooleanField&) { return "boolean"; }},
                    field);
}

std::string Setting::Range() const {
  if (std::holds_alternative<BooleanField>(field)) return "allowed: true or false";
  if (!choices.empty()) return fmt::format("allowed: {}", Join(choices, " or "));
  if (!minimum.empty() && !maximum.empty()) {
    return fmt::format("allowed: {} to {}", minimum, maximum);
  }
  if (!minimum.empty()) return fmt::format("allowed: at least {}", minimum);
  if (std::holds_alternative<SizeField>(field)) return "allowed: a size such as 8GiB or 512MiB";
  return "";
}

const Setting* FindSetting(const std::vector<Setting>& registry, std::string_view key) {
  const auto found = std::find_if(registry.begin(), registry.end(),
                                  [&](const Setting& setting) { return setting.key == key; });
  return found == registry.end() ? nullptr : &*found;
}

absl::Status AssignSetting(const Setting& setting, std::string_view text, Config& config) {
  return std::visit(
      Overloaded{
          [&](const TextField& field) { return AssignText(setting, text, field.of(config)); },
          [&](const AddressField& field) {
            return AssignAddress(setting, text, field.is_http, field.of(config));
          },
          [&](const SocketField& field) { return AssignSocket(setting, text, field.of(config)); },
          [&](const ChoiceField& field) {
            if (std::count(setting.choices.begin(), setting.choices.end(), text) == 0) {
              return OutOfRange(setting, text);
            }
            field.of(config) = text;
            return absl::OkStatus();
          },
          [&](const SizeField& field) {
            if (text == kAutoText && setting.default_text == kAutoText) {
              field.of(config) = kAutoSize;
              return absl::OkStatus();
            }
            return AssignBounded<uint64_t>(setting, text, ParseByteSize, field.of(config));
          },
          [&](const DurationField& field) {
            return AssignBounded<Nanos>(setting, text, ParseDuration, field.of(config));
          },
          [&](const IntegerField& field) {
            return AssignBounded<int64_t>(setting, text, ParseNumber<int64_t>, field.of(config));
          },
          [&](const RealField& field) {
            return AssignBounded<double>(setting, text, ParseNumber<double>, field.of(config));
          },
          [&](const BooleanField& field) { return AssignBoolean(setting, text, field.of(config)); },
      },
      setting.field);
}

std::string WriteSetting(const Setting& setting, const Config& config) {
  // The accessors serve reading and writing; nothing is changed here.
  Config& fields = const_cast<Config&>(config);
  std::string text =
      std::visit(Overloaded{
                     [&](const TextField& field) { return field.of(fields); },
                     [&](const ChoiceField& field) { return field.of(fields); },
                     [&](const AddressField& field) { return OrOff(field.of(fields)); },
                     [&](const SocketField& field) { return OrOff(field.of(fields)); },
                     [&](const SizeField& field) { return WriteSize(field.of(fields)); },
                     [&](const DurationField& field) { return WriteDuration(field.of(fields)); },
                     [&](const IntegerField& field) { return fmt::format("{}", field.of(fields)); },
                     [&](const RealField& field) { return fmt::format("{}", field.of(fields)); },
                     [&](const BooleanField& field) {
                       return std::string(field.of(fields) ? "true" : "false");
                     },
                 },
                 setting.field);
  if (setting.secret && !text.empty()) return std::string(kMask);
  return text;
}

std::string NearestName(std::string_view name, const std::vector<std::string>& known) {
  // Names from outside may be long; nothing near to them is known.
  constexpr size_t kLongestName = 128;
  if (name.size() > kLongestName) return "";
  std::string nearest;
  size_t fewest = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const size_t distance = EditDistance(name, candidate);
    if (distance < fewest) {
      fewest = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace mnemo
