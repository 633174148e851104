// What a command says: one value, printed as a table, JSON or YAML.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace mnemo::cli {

enum class Format { kTable, kWide, kJson, kYaml };
inline constexpr char kFormatNames[] = "table wide json yaml";

// Columns are as wide as their widest cell; numbers are aligned right.
class Table {
 public:
  struct Column {
    std::string name;
    bool right = false;
    bool wide = false;  // shown only by -o wide
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as columns.
  void AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  void Print(std::ostream& out, bool wide) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Cells: a control character or a byte that is not ASCII is printed as \xNN, so
// that a key or a name cannot drive the terminal.
std::string Printable(std::string_view text);
std::string Hex(std::string_view bytes);
// "12,345".
std::string Grouped(uint64_t number);
std::string Percent(double share);
// "2026-01-31 12:00:00Z", of microseconds since the Unix epoch.
std::string Date(int64_t unix_us);

// Whether a stream may be coloured: it is a terminal that can, and nobody said
// NO_COLOR (https://no-color.org). Both variables may be null.
bool MayColour(bool is_terminal, const char* no_color, const char* term);

enum class Tone { kGood, kBad };
// `text` in the tone's colour, or as it is.
std::string Painted(bool colour, Tone tone, std::string_view text);

void PrintJson(std::ostream& out, const nlohmann::ordered_json& value);
void PrintYaml(std::ostream& out, const nlohmann::ordered_json& value);

}  // namespace mnemo::cli
