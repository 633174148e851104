// What the context commands share.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "client/cli/command.h"
#include "mnemo/contexts.h"

namespace mnemo::cli {

// A context by name, or by id behind "id:" in hexadecimal.
absl::StatusOr<client::ContextRef> ParseContext(const std::string& text);
// "user"; "-" where it is not said.
std::string_view TokenKindName(client::TokenKind kind);
// Adds the verb to the noun.
void AddContextSearch(CLI::App& context, Invocation& run);

}  // namespace mnemo::cli
