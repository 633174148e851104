#include "server/rpc/convert_context.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

std::string Joined(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string all;
  for (const grpc::Slice& slice : slices) {
    all.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return all;
}

TEST(ConvertContextTest, KindsAgreeWithTheContract) {
  const std::pair<TokenKind, const char*> names[] = {
      {TokenKind::kUnspecified, "TOKEN_KIND_UNSPECIFIED"},
      {TokenKind::kSystem, "TOKEN_KIND_SYSTEM"},
      {TokenKind::kUser, "TOKEN_KIND_USER"},
      {TokenKind::kAssistant, "TOKEN_KIND_ASSISTANT"},
      {TokenKind::kTool, "TOKEN_KIND_TOOL"},
      {TokenKind::kDocument, "TOKEN_KIND_DOCUMENT"},
      {TokenKind::kCode, "TOKEN_KIND_CODE"}};
  EXPECT_EQ(v1::TokenKind_descriptor()->value_count(), static_cast<int>(std::size(names)));
  for (const auto& [kind, name] : names) {
    EXPECT_EQ(v1::TokenKind_Name(static_cast<v1::TokenKind>(kind)), name);
  }
}

TEST(ConvertContextTest, ASpecGoesThereAndBack) {
  v1::Context context;
  context.set_name("c");
  context.set_dimension(640);
  context.set_stored_dtype(v1::DTYPE_INT8);
  context.set_metric(v1::METRIC_L2);
  context.add_kinds(v1::TOKEN_KIND_USER);
  context.add_kinds(v1::TOKEN_KIND_TOOL);
  context.set_durability(v1::DURABILITY_INTERVAL);
  v1::Label* label = context.add_labels();
  label->set_key("k");
  label->set_value("v");
  const absl::StatusOr<ContextSpec> spec = FromProto(context);
  ASSERT_OK(spec.status());
  context.set_id(5);
  context.set_created_unix_us(6);
  context.set_tokens(7);
  context.set_sealed(true);
  v1::Context back;
  ToProto({.id = 5, .spec = *spec, .created_unix_us = 6, .tokens = 7, .sealed = true}, &back);
  EXPECT_EQ(back.DebugString(), context.DebugString());
}

TEST(ConvertContextTest, LabelsAreOrderedByKeyHoweverTheyCome) {
  v1::Context context;
  for (const char* key : {"user", "book", "age"}) {
    v1::Label* label = context.add_labels();
    label->set_key(key);
    label->set_value("v");
  }
  EXPECT_EQ(FromProto(context.labels()), (Labels{{"age", "v"}, {"book", "v"}, {"user", "v"}}));
}

TEST(ConvertContextTest, EnumerationsThatAreNotOursAreRefusedByName) {
  const auto refused = [](const char* why, auto&& spoil) {
    v1::Context context;
    spoil(context);
    EXPECT_THAT(FromProto(context).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  refused("metric is 9; it must be 0 to 3",
          [](v1::Context& c) { c.set_metric(static_cast<v1::Metric>(9)); });
  refused("stored_dtype is 1; it must be F16, INT8 or INT4",
          [](v1::Context& c) { c.set_stored_dtype(v1::DTYPE_F32); });
  refused("durability is 1; it must be INTERVAL or SYNC",
          [](v1::Context& c) { c.set_durability(v1::DURABILITY_CACHE); });
  refused("kinds is -1", [](v1::Context& c) { c.add_kinds(static_cast<v1::TokenKind>(-1)); });
}

TEST(ConvertContextTest, AReadStepIsWhatProtobufReads) {
  for (const uint32_t count : {1U, 7U, 8192U}) {
    for (const bool owned : {false, true}) {
      auto owner = std::make_shared<std::string>(count * 8, 'e');
      const std::string ids(count * 4, 'i');
      ContextReadStep step{.tokens = {.first_position = uint64_t{1} << 40,
                                      .count = count,
                                      .ids = AsBytes(ids),
                                      .kind = TokenKind::kTool,
                                      .embedding_type = ElementType::kFloat16,
                                      .embeddings = AsBytes(*owner)},
                           .fidelity_bits = 8,
                           .level = Level::kDisk};
      if (owned) step.owner = owner;
      grpc::ByteBuffer encoded = EncodeReadStep(step);
      step = {};
      EXPECT_EQ(owner.use_count(), owned ? 2 : 1);
      v1::ReadContextResponse response;
      ASSERT_TRUE(response.ParseFromString(Joined(encoded)));
      const v1::StoredTokens& stored = response.tokens();
      EXPECT_EQ(stored.level(), v1::LEVEL_DISK);
      EXPECT_EQ(stored.bits_per_value(), 8u);
      EXPECT_EQ(stored.tokens().first_position(), uint64_t{1} << 40);
      EXPECT_EQ(stored.tokens().count(), count);
      EXPECT_EQ(stored.tokens().kind(), v1::TOKEN_KIND_TOOL);
      EXPECT_EQ(stored.tokens().embedding_dtype(), v1::DTYPE_F16);
      EXPECT_EQ(stored.tokens().ids(), ids);
      EXPECT_EQ(stored.tokens().embeddings(), *owner);
      encoded.Clear();
      EXPECT_EQ(owner.use_count(), 1);
    }
  }
}

TEST(ConvertContextTest, ADescriptionLeavesOutLevelsThatHoldNothing) {
  ContextDescription description;
  description.level_tokens[Index(Level::kL2)] = 5;
  v1::DescribeContextResponse response;
  ToProto(description, &response);
  ASSERT_EQ(response.levels_size(), 1);
  EXPECT_EQ(response.levels(0).level(), v1::LEVEL_L2);
}

}  // namespace
}  // namespace mnemo
