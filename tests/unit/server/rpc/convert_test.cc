#include "server/rpc/convert.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

TEST(ConvertTest, EveryStatusCodeHasItsTwin) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "why");
    const grpc::Status mapped = ToGrpc(status);
    EXPECT_EQ(static_cast<int>(mapped.error_code()), code);
    EXPECT_EQ(mapped.error_message(), code == 0 ? "" : "why");
  }
  const std::pair<absl::Status, grpc::StatusCode> named[] = {
      {absl::OkStatus(), grpc::StatusCode::OK},
      {absl::CancelledError(""), grpc::StatusCode::CANCELLED},
      {absl::UnknownError(""), grpc::StatusCode::UNKNOWN},
      {absl::InvalidArgumentError(""), grpc::StatusCode::INVALID_ARGUMENT},
      {absl::DeadlineExceededError(""), grpc::StatusCode::DEADLINE_EXCEEDED},
      {absl::NotFoundError(""), grpc::StatusCode::NOT_FOUND},
      {absl::AlreadyExistsError(""), grpc::StatusCode::ALREADY_EXISTS},
      {absl::PermissionDeniedError(""), grpc::StatusCode::PERMISSION_DENIED},
      {absl::UnauthenticatedError(""), grpc::StatusCode::UNAUTHENTICATED},
      {absl::ResourceExhaustedError(""), grpc::StatusCode::RESOURCE_EXHAUSTED},
      {absl::FailedPreconditionError(""), grpc::StatusCode::FAILED_PRECONDITION},
      {absl::AbortedError(""), grpc::StatusCode::ABORTED},
      {absl::OutOfRangeError(""), grpc::StatusCode::OUT_OF_RANGE},
      {absl::UnimplementedError(""), grpc::StatusCode::UNIMPLEMENTED},
      {absl::InternalError(""), grpc::StatusCode::INTERNAL},
      {absl::UnavailableError(""), grpc::StatusCode::UNAVAILABLE},
      {absl::DataLossError(""), grpc::StatusCode::DATA_LOSS}};
  for (const auto& [status, code] : named) EXPECT_EQ(ToGrpc(status).error_code(), code);
}

TEST(ConvertTest, ItemErrorsCarryTheSameCode) {
  v1::ItemError error;
  ToProto(absl::DataLossError("damaged"), &error);
  EXPECT_EQ(error.code(), 15);
  EXPECT_EQ(error.message(), "damaged");
}

// Engine enumerations are cast to those of the contract: their names must agree.
template <typename Enum>
std::string NameOf(const google::protobuf::EnumDescriptor* descriptor, Enum value) {
  const auto* found = descriptor->FindValueByNumber(static_cast<int>(value));
  return found == nullptr ? "" : found->name();
}

TEST(ConvertTest, EnumerationsAgreeWithTheContract) {
  EXPECT_EQ(NameOf(v1::Verdict_descriptor(), Verdict::kWant), "VERDICT_WANT");
  EXPECT_EQ(NameOf(v1::Verdict_descriptor(), Verdict::kPresent), "VERDICT_PRESENT");
  EXPECT_EQ(NameOf(v1::Verdict_descriptor(), Verdict::kPending), "VERDICT_PENDING");
  EXPECT_EQ(NameOf(v1::Verdict_descriptor(), Verdict::kRefused), "VERDICT_REFUSED");
  EXPECT_EQ(NameOf(v1::PutOutcome_descriptor(), PutOutcome::kStored), "PUT_OUTCOME_STORED");
  EXPECT_EQ(NameOf(v1::PutOutcome_descriptor(), PutOutcome::kAlreadyPresent),
            "PUT_OUTCOME_ALREADY_PRESENT");
  EXPECT_EQ(NameOf(v1::PutOutcome_descriptor(), PutOutcome::kConflict), "PUT_OUTCOME_CONFLICT");
  EXPECT_EQ(NameOf(v1::ReadOrder_descriptor(), ReadOrder::kBlockMajor), "READ_ORDER_BLOCK_MAJOR");
  EXPECT_EQ(NameOf(v1::ReadOrder_descriptor(), ReadOrder::kLayerMajor), "READ_ORDER_LAYER_MAJOR");
  EXPECT_EQ(NameOf(v1::Durability_descriptor(), Durability::kCache), "DURABILITY_CACHE");
  EXPECT_EQ(NameOf(v1::Durability_descriptor(), Durability::kInterval), "DURABILITY_INTERVAL");
  EXPECT_EQ(NameOf(v1::Durability_descriptor(), Durability::kSync), "DURABILITY_SYNC");
  EXPECT_EQ(NameOf(v1::GroupKind_descriptor(), GroupKind::kFull), "GROUP_KIND_FULL");
  EXPECT_EQ(NameOf(v1::GroupKind_descriptor(), GroupKind::kWindow), "GROUP_KIND_WINDOW");
  EXPECT_EQ(NameOf(v1::GroupKind_descriptor(), GroupKind::kState), "GROUP_KIND_STATE");
  EXPECT_EQ(NameOf(v1::GroupKind_descriptor(), GroupKind::kLatent), "GROUP_KIND_LATENT");
  EXPECT_EQ(NameOf(v1::GroupKind_descriptor(), GroupKind::kOpaque), "GROUP_KIND_OPAQUE");
  EXPECT_EQ(NameOf(v1::DType_descriptor(), DType::kF32), "DTYPE_F32");
  EXPECT_EQ(NameOf(v1::DType_descriptor(), DType::kF16), "DTYPE_F16");
  EXPECT_EQ(NameOf(v1::DType_descriptor(), DType::kBF16), "DTYPE_BF16");
  EXPECT_EQ(NameOf(v1::DType_descriptor(), DType::kFp8E4M3), "DTYPE_FP8_E4M3");
  EXPECT_EQ(NameOf(v1::DType_descriptor(), DType::kFp8E5M2), "DTYPE_FP8_E5M2");
  EXPECT_EQ(NameOf(v1::DType_descriptor(), DType::kInt8), "DTYPE_INT8");
  EXPECT_EQ(NameOf(v1::DType_descriptor(), DType::kInt4), "DTYPE_INT4");
  EXPECT_EQ(NameOf(v1::Layout_descriptor(), Layout::kLayerMajor), "LAYOUT_LAYER_MAJOR");
  EXPECT_EQ(NameOf(v1::Layout_descriptor(), Layout::kKvMajor), "LAYOUT_KV_MAJOR");
  EXPECT_EQ(NameOf(v1::Layout_descriptor(), Layout::kTokenMajor), "LAYOUT_TOKEN_MAJOR");
  EXPECT_EQ(NameOf(v1::RopePairing_descriptor(), RopePairing::kHalf), "ROPE_PAIRING_HALF");
  EXPECT_EQ(NameOf(v1::RopePairing_descriptor(), RopePairing::kInterleaved),
            "ROPE_PAIRING_INTERLEAVED");
  const std::pair<Level, const char*> levels[] = {{Level::kL1, "LEVEL_L1"},
                                                  {Level::kL2, "LEVEL_L2"},
                                                  {Level::kL3, "LEVEL_L3"},
                                                  {Level::kDisk, "LEVEL_DISK"}};
  for (const auto& [level, name] : levels) EXPECT_EQ(v1::Level_Name(ToProto(level)), name);
  const std::pair<BlockEvent::Kind, const char*> kinds[] = {
      {BlockEvent::Kind::kStored, "BLOCK_EVENT_KIND_STORED"},
      {BlockEvent::Kind::kMoved, "BLOCK_EVENT_KIND_MOVED"},
      {BlockEvent::Kind::kRemoved, "BLOCK_EVENT_KIND_REMOVED"},
      {BlockEvent::Kind::kCleared, "BLOCK_EVENT_KIND_CLEARED"},
      {BlockEvent::Kind::kSnapshotEnd, "BLOCK_EVENT_KIND_SNAPSHOT_END"}};
  for (const auto& [kind, name] : kinds) {
    v1::BlockEvent event;
    ToProto(BlockEvent{.kind = kind}, &event);
    EXPECT_EQ(v1::BlockEventKind_Name(event.kind()), name);
  }
}

TEST(ConvertTest, AbsentFieldsBecomeTheirDefaults) {
  ASSERT_OK_AND_ASSIGN(const GetRequest get, FromProto(v1::GetRequest()));
  EXPECT_EQ(get.order, ReadOrder::kBlockMajor);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(get.space));
  ASSERT_OK_AND_ASSIGN(const PutRequest put, FromProto(v1::PutStart()));
  EXPECT_FALSE(put.durability.has_value());
  v1::PartOffer offer;
  offer.set_key("k");
  ASSERT_OK_AND_ASSIGN(const PartOffer part, FromProto(offer));
  EXPECT_FALSE(part.digest.has_value());
  EXPECT_EQ(part.part, PartId{});
}

}  // namespace
}  // namespace mnemo
