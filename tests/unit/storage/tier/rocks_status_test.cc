#include "storage/tier/rocks_status.h"

#include <set>
#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;
using rocksdb::IOStatus;
using rocksdb::Status;

struct Case {
  Status status;
  absl::StatusCode code;
};

std::vector<Case> AllCodes() {
  return {
      {Status::OK(), absl::StatusCode::kOk},
      {Status::NotFound("m"), absl::StatusCode::kNotFound},
      {Status::Corruption("m"), absl::StatusCode::kDataLoss},
      {Status::NotSupported("m"), absl::StatusCode::kUnimplemented},
      {Status::InvalidArgument("m"), absl::StatusCode::kInvalidArgument},
      {Status::IOError("m"), absl::StatusCode::kUnavailable},
      {Status::MergeInProgress("m"), absl::StatusCode::kInternal},
      {Status::Incomplete("m"), absl::StatusCode::kUnavailable},
      {Status::ShutdownInProgress("m"), absl::StatusCode::kUnavailable},
      {Status::TimedOut("m"), absl::StatusCode::kDeadlineExceeded},
      {Status::Aborted("m"), absl::StatusCode::kAborted},
      {Status::Busy("m"), absl::StatusCode::kUnavailable},
      {Status::Expired("m"), absl::StatusCode::kDeadlineExceeded},
      {Status::TryAgain("m"), absl::StatusCode::kUnavailable},
      {Status::CompactionTooLarge("m"), absl::StatusCode::kResourceExhausted},
      {Status::ColumnFamilyDropped("m"), absl::StatusCode::kFailedPrecondition},
  };
}

TEST(RocksStatusTest, MapsEveryCode) {
  std::set<int> covered;
  for (const Case& test : AllCodes()) {
    covered.insert(test.status.code());
    EXPECT_EQ(FromRocks(test.status, "what").code(), test.code) << test.status.ToString();
  }
  // A code that a newer RocksDB adds must be decided upon here.
  EXPECT_EQ(covered.size(), static_cast<size_t>(Status::kMaxCode));
}

TEST(RocksStatusTest, MapsTheKindsOfIoError) {
  EXPECT_EQ(FromRocks(Status::NoSpace(), "w").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(FromRocks(Status::SpaceLimit(), "w").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(FromRocks(Status::MemoryLimit(), "w").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(FromRocks(Status::PathNotFound(), "w").code(), absl::StatusCode::kDataLoss);
}

TEST(RocksStatusTest, SaysWhatWasDoneFirst) {
  EXPECT_THAT(FromRocks(Status::Corruption("bad block"), "open /x"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("open /x: Corruption: bad block")));
}

TEST(RocksStatusTest, GivesRocksDbWhatItActsOn) {
  EXPECT_TRUE(ToRocks(absl::OkStatus()).ok());
  EXPECT_TRUE(ToRocks(absl::NotFoundError("m")).IsPathNotFound());
  EXPECT_TRUE(ToRocks(absl::ResourceExhaustedError("m")).IsNoSpace());
  for (int code = 1; code <= 16; ++code) {
    const IOStatus status = ToRocks(absl::Status(static_cast<absl::StatusCode>(code), "m"));
    EXPECT_TRUE(status.IsIOError()) << code;
    EXPECT_TRUE(status.GetRetryable()) << code;
  }
}

}  // namespace
}  // namespace mnemo
