// Between the values of mnemo/contexts.h and the messages of the contract.
#pragma once

#include <deque>
#include <vector>

#include "absl/status/statusor.h"
#include "mnemo/contexts.h"
#include "mnemo/v1/context.pb.h"

namespace mnemo::client {

v1::ContextRef ToMessage(const ContextRef& ref);
v1::Context ToMessage(const Context& context);
v1::ReadContextRequest ToMessage(const ReadRequest& request);
v1::SearchRequest ToMessage(const SearchRequest& request);
v1::BlockLink ToMessage(const BlockLink& link);
void AddLabels(const Labels& labels, google::protobuf::RepeatedPtrField<v1::Label>& out);

// Cuts columns into messages that the contract allows; no payload is cut.
// Errors: kInvalidArgument (a column has another length, a payload lies
// outside, or covers more tokens than a message holds).
absl::StatusOr<std::deque<v1::AppendRequest>> ToMessages(const TokenColumns& columns,
                                                         uint32_t dimension,
                                                         uint64_t first_position);

Context FromMessage(const v1::Context& message);
// Views of the message.
TokenRun FromMessage(const v1::StoredTokens& message);
RangeSummary FromMessage(const v1::RangeSummary& message);
SearchResult FromMessage(const v1::SearchResponse& message);
BlockLink FromMessage(const v1::BlockLink& message);
ContextDescription FromMessage(const v1::DescribeContextResponse& message);

}  // namespace mnemo::client
