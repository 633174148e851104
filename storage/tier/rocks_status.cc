#include "storage/tier/rocks_status.h"

#include <fmt/format.h>

#include <string>

namespace mnemo {
namespace {

absl::StatusCode CodeOfIoError(const rocksdb::Status& status) {
  switch (status.subcode()) {
    case rocksdb::Status::kNoSpace:
    case rocksdb::Status::kSpaceLimit:
    case rocksdb::Status::kMemoryLimit:
      return absl::StatusCode::kResourceExhausted;
    case rocksdb::Status::kPathNotFound:
      return absl::StatusCode::kDataLoss;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

absl::StatusCode CodeOf(const rocksdb::Status& status) {
  switch (status.code()) {
    case rocksdb::Status::kOk:
      return absl::StatusCode::kOk;
    case rocksdb::Status::kNotFound:
      return absl::StatusCode::kNotFound;
    case rocksdb::Status::kCorruption:
      return absl::StatusCode::kDataLoss;
    case rocksdb::Status::kNotSupported:
      return absl::StatusCode::kUnimplemented;
    case rocksdb::Status::kInvalidArgument:
      return absl::StatusCode::kInvalidArgument;
    case rocksdb::Status::kIOError:
      return CodeOfIoError(status);
    case rocksdb::Status::kCompactionTooLarge:
      return absl::StatusCode::kResourceExhausted;
    case rocksdb::Status::kIncomplete:
    case rocksdb::Status::kShutdownInProgress:
    case rocksdb::Status::kBusy:
    case rocksdb::Status::kTryAgain:
      return absl::StatusCode::kUnavailable;
    case rocksdb::Status::kTimedOut:
    case rocksdb::Status::kExpired:
      return absl::StatusCode::kDeadlineExceeded;
    case rocksdb::Status::kAborted:
      return status.subcode() == rocksdb::Status::kMemoryLimit
                 ? absl::StatusCode::kResourceExhausted
                 : absl::StatusCode::kAborted;
    case rocksdb::Status::kColumnFamilyDropped:
      return absl::StatusCode::kFailedPrecondition;
    case rocksdb::Status::kMergeInProgress:
    case rocksdb::Status::kMaxCode:
      break;
  }
  return absl::StatusCode::kInternal;
}

}  // namespace

absl::Status FromRocks(const rocksdb::Status& status, std::string_view what) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(CodeOf(status), fmt::format("{}: {}", what, status.ToString()));
}

rocksdb::IOStatus ToRocks(const absl::Status& status) {
  if (status.ok()) return rocksdb::IOStatus::OK();
  const std::string message(status.message());
  rocksdb::IOStatus io;
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
      io = rocksdb::IOStatus::PathNotFound(message);
      break;
    case absl::StatusCode::kResourceExhausted:
      io = rocksdb::IOStatus::NoSpace(message);
      break;
    default:
      io = rocksdb::IOStatus::IOError(message);
      break;
  }
  io.SetRetryable(true);
  return io;
}

}  // namespace mnemo
