// Between the messages of context.proto and the engine's values.
//
// Views in an engine value point into the message, which outlives it.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <vector>

#include "absl/status/statusor.h"
#include "mnemo/v1/context.pb.h"
#include "server/engine/context_engine.h"

namespace mnemo {

// Absent fields become defaults; numbers of enumerations that the contract does
// not have, and columns that do not have one value a token, are
// kInvalidArgument. Other ranges are checked by the engine.
ContextRef FromProto(const v1::ContextRef& ref);
absl::StatusOr<ContextSpec> FromProto(const v1::Context& context);
Labels FromProto(const google::protobuf::RepeatedPtrField<v1::Label>& labels);
absl::StatusOr<AppendStart> FromProto(const v1::AppendStart& start);
// `dimension` is the context's.
absl::StatusOr<TokenColumns> FromProto(const v1::TokenBatch& batch, uint32_t dimension);
absl::StatusOr<ContextReadRequest> FromProto(const v1::ReadContextRequest& request);
// The queries of a request are not aligned: they are copied to `queries`, which
// outlives the result.
absl::StatusOr<ContextSearchRequest> FromProto(const v1::SearchRequest& request,
                                               std::vector<float>& queries);
BlockLink FromProto(const v1::BlockLink& link);

void ToProto(const ContextInfo& info, v1::Context* out);
void ToProto(const RangeSummary& summary, v1::RangeSummary* out);
void ToProto(const ContextHit& hit, v1::SearchHit* out);
void ToProto(const ContextSearchAnswer& answer, v1::SearchResponse* out);
void ToProto(const BlockLink& link, v1::BlockLink* out);
void ToProto(const ContextDescription& description, v1::DescribeContextResponse* out);

// A ReadContextResponse. Embeddings are not copied: their slice keeps the step's
// owner until gRPC has sent it.
grpc::ByteBuffer EncodeReadStep(const ContextReadStep& step);

}  // namespace mnemo
