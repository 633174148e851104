#include "client/cli/output.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace mnemo::cli {
namespace {

void Emit(YAML::Emitter& yaml, const nlohmann::ordered_json& value) {
  if (value.is_object()) {
    yaml << YAML::BeginMap;
    for (const auto& [key, child] : value.items()) {
      yaml << YAML::Key << key << YAML::Value;
      Emit(yaml, child);
    }
    yaml << YAML::EndMap;
  } else if (value.is_array()) {
    yaml << YAML::BeginSeq;
    for (const auto& child : value) Emit(yaml, child);
    yaml << YAML::EndSeq;
  } else if (value.is_string()) {
    // Quoted, so that a name such as "on" or "1e3" stays a string.
    yaml << YAML::DoubleQuoted << value.get<std::string>();
  } else {
    yaml << value.dump();
  }
}

}  // namespace

void Table::Print(std::ostream& out, bool wide) const {
  std::vector<size_t> shown;
  for (size_t c = 0; c < columns_.size(); ++c) {
    if (wide || !columns_[c].wide) shown.push_back(c);
  }
  std::vector<size_t> widths(columns_.size());
  for (const size_t c : shown) {
    widths[c] = columns_[c].name.size();
    for (const auto& row : rows_) widths[c] = std::max(widths[c], row[c].size());
  }
  const auto print = [&](const auto& cell_of) {
    std::string line;
    for (const size_t c : shown) {
      if (c != shown.front()) line += "  ";
      line += columns_[c].right ? fmt::format("{:>{}}", cell_of(c), widths[c])
                                : fmt::format("{:<{}}", cell_of(c), widths[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out << line << '\n';
  };
  print([&](size_t c) -> const std::string& { return columns_[c].name; });
  for (const auto& row : rows_) {
    print([&](size_t c) -> const std::string& { return row[c]; });
  }
}

std::string Printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out.push_back(c);
    } else {
      out += fmt::format("\\x{:02x}", byte);
    }
  }
  return out;
}

std::string Hex(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<uint8_t>(c));
  return out;
}

std::string Grouped(uint64_t number) {
  std::string digits = fmt::to_string(number);
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

std::string Date(int64_t unix_us) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}Z", fmt::gmtime(static_cast<time_t>(unix_us / 1000000)));
}

std::string Percent(double share) { return fmt::format("{:.1f} %", share * 100); }

bool MayColour(bool is_terminal, const char* no_color, const char* term) {
  const bool refused = no_color != nullptr && *no_color != '\0';
  const bool dumb = term == nullptr || std::string_view(term) == "dumb";
  return is_terminal && !refused && !dumb;
}

std::string Painted(bool colour, Tone tone, std::string_view text) {
  if (!colour) return std::string(text);
  return fmt::format("\033[{}m{}\033[0m", tone == Tone::kGood ? 32 : 31, text);
}

void PrintJson(std::ostream& out, const nlohmann::ordered_json& value) {
  out << value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
}

void PrintYaml(std::ostream& out, const nlohmann::ordered_json& value) {
  YAML::Emitter yaml;
  Emit(yaml, value);
  out << yaml.c_str() << '\n';
}

}  // namespace mnemo::cli
