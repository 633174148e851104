// What lies where, drawn in letters: one row for levels, one for the index.
#pragma once

#include <cstddef>
#include <string>

#include "mnemo/contexts.h"

namespace mnemo::cli {

// Two rows of `width` cells, each cell as many tokens, with a scale and a
// legend, each line ended by a newline. A cell shows what most of its tokens
// have. Empty for a context without tokens. `width` is at least 16.
std::string DrawContext(const client::ContextDescription& description, size_t width);

}  // namespace mnemo::cli
