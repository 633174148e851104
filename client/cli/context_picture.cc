#include "client/cli/context_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "client/cli/output.h"

namespace mnemo::cli {
namespace {

char LevelLetter(client::Level level) {
  switch (level) {
    case client::Level::kL1:
      return '1';
    case client::Level::kL2:
      return '2';
    case client::Level::kL3:
      return '3';
    case client::Level::kDisk:
      return 'D';
    default:
      return '?';
  }
}

char IndexLetter(const std::string& index) {
  static constexpr std::pair<std::string_view, char> kLetters[] = {
      {"growing", 'g'}, {"flat", 'f'}, {"hnsw", 'h'}, {"ivf", 'i'}};
  for (const auto& [name, letter] : kLetters) {
    if (index == name) return letter;
  }
  return '?';
}

// Which runs a cell shows, by how many of its tokens they have.
template <typename Letter>
std::string Row(const client::ContextDescription& description, size_t width, Letter letter) {
  const uint64_t tokens = description.context.tokens;
  std::string row;
  for (size_t cell = 0; cell < width; ++cell) {
    const uint64_t begin = tokens / width * cell + tokens % width * cell / width;
    const uint64_t end = tokens / width * (cell + 1) + tokens % width * (cell + 1) / width;
    std::map<char, uint64_t> shares;
    for (const client::ContextRun& run : description.runs) {
      const uint64_t first = std::max(begin, run.first_position);
      const uint64_t last = std::min(end, run.first_position + run.count);
      if (last > first) shares[letter(run)] += last - first;
    }
    const auto most =
        std::max_element(shares.begin(), shares.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    row += most == shares.end() ? ' ' : most->first;
  }
  return row;
}

}  // namespace

std::string DrawContext(const client::ContextDescription& description, size_t width) {
  const uint64_t tokens = description.context.tokens;
  if (tokens == 0) return "";
  width = std::min<uint64_t>(width, tokens);
  const std::string levels =
      Row(description, width, [](const client::ContextRun& run) { return LevelLetter(run.level); });
  const std::string index =
      Row(description, width, [](const client::ContextRun& run) { return IndexLetter(run.index); });
  return fmt::format("level  |{}|\nindex  |{}|\n        0{:>{}}\n", levels, index, Grouped(tokens),
                     width - 1) +
         "level: 1 L1, 2 L2, 3 L3, D Disk; index: g growing, f flat, h HNSW, i IVF\n";
}

}  // namespace mnemo::cli
