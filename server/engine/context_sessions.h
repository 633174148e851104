// Appends and reads in progress, over the stream store.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "index/kernels/kernels.h"
#include "server/engine/context_engine.h"
#include "server/engine/context_indexer.h"
#include "storage/context/context_store.h"

namespace mnemo {

// Claims the context for the writer; what is appended is told to `indexer`. What
// is borrowed outlives the session.
absl::StatusOr<std::unique_ptr<AppendSession>> OpenAppendSession(
    const CallContext& call, const Clock& clock, ContextStore& store, ContextIndexer& indexer,
    const ContextRecord& context, const AppendStart& start);

// Errors: kInvalidArgument (the resolution, the type), kOutOfRange (the range
// begins behind the end).
absl::StatusOr<std::unique_ptr<ContextReadSession>> OpenReadSession(
    const CallContext& call, const Clock& clock, const ContextReader& reader,
    const ContextRecord& context, const ContextReadRequest& request);

// What [first, first + count) of a context has in common, as a caller sees it.
RangeSummary ToRangeSummary(const TreeNode& node, uint64_t first_position, bool vectors);

// Whether summaries of so many tokens can be read: 128, 512, and so on by fours
// up to 131,072.
bool IsSummaryResolution(uint32_t resolution);

// The end of a range within a context of `tokens` tokens; `count` 0 means all.
// Errors: kOutOfRange (it begins behind the end).
absl::StatusOr<uint64_t> EndOfRange(uint64_t first, uint64_t count, uint64_t tokens);

}  // namespace mnemo
