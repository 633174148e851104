#include "storage/tier/operation_log.h"

#include <string>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

Operation Sample() {
  return {.shard = 5,
          .epoch = 6,
          .sequence = 7,
          .kind = OperationKind::kPin,
          .key = "key",
          .payload = "payload"};
}

TEST(OperationLogFormatTest, ComesBackAsItWent) {
  ASSERT_OK_AND_ASSIGN(const Operation back,
                       DecodeLogEntry(EncodeLogKey(5, 7), EncodeLogValue(Sample())));
  EXPECT_EQ(back.shard, 5);
  EXPECT_EQ(back.epoch, 6u);
  EXPECT_EQ(back.sequence, 7u);
  EXPECT_EQ(back.kind, OperationKind::kPin);
  EXPECT_EQ(back.key, "key");
  EXPECT_EQ(back.payload, "payload");
}

TEST(OperationLogFormatTest, KeysSortByShardThenSequence) {
  EXPECT_LT(EncodeLogKey(1, UINT64_MAX), EncodeLogKey(2, 1));
  EXPECT_LT(EncodeLogKey(1, 255), EncodeLogKey(1, 256));
}

// The bytes of docs/formats/operation-log.md.
TEST(OperationLogFormatTest, HasTheDocumentedBytes) {
  const std::string value = EncodeLogValue(Sample());
  EXPECT_EQ(value[0], 1);  // version
  EXPECT_EQ(value[1], 6);  // kPin
  EXPECT_EQ(LoadLittle<uint64_t>(&value[2]), 6u);
  EXPECT_EQ(LoadLittle<uint16_t>(&value[10]), 3u);
  EXPECT_EQ(value.substr(12), "keypayload");
}

TEST(OperationLogFormatTest, WhatDoesNotDecodeIsDataLoss) {
  const std::string key = EncodeLogKey(5, 7);
  const std::string value = EncodeLogValue(Sample());
  for (size_t size = 0; size < 15; ++size) {
    EXPECT_THAT(DecodeLogEntry(key, value.substr(0, size)), StatusIs(absl::StatusCode::kDataLoss));
  }
  for (const int kind : {0, static_cast<int>(OperationKind::kPutCalibration) + 1}) {
    std::string bad = value;
    bad[1] = static_cast<char>(kind);
    EXPECT_THAT(DecodeLogEntry(key, bad), StatusIs(absl::StatusCode::kDataLoss));
  }
  std::string later = value;
  later[0] = 2;
  EXPECT_THAT(DecodeLogEntry(key, later), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeLogEntry(key + "x", value), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace mnemo
