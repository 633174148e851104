#include "server/rpc/put_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

// The contract lets a client send this much before any grant.
constexpr uint64_t kInitialCredit = kMiB;
// How far a grant runs ahead of what was received.
constexpr uint64_t kWindow = 8 * kMiB;
constexpr uint64_t kMaxMessagePayload = kMiB;
// Less than this does not count as progress: a client that sends a byte a second
// would hold its window for ever.
constexpr uint64_t kProgressBytes = 64 * kKiB;

}  // namespace

PutStream::PutStream(Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context)
    : ExchangeStream(gate, "mnemo.v1.BlockService/Put", context, Patience::kLimited),
      blocks_(blocks) {}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* PutStream::Start(
    Gate& gate, BlockEngine& blocks, grpc::CallbackServerContext* context) {
  auto* stream = new PutStream(gate, blocks, context);
  stream->Begin();
  return stream;
}

void PutStream::Begin() {
  const absl::Status status = Admit();
  if (!status.ok()) return End(status);
  Read();
}

bool PutStream::IsProgress() {
  bytes_unmarked_ += incoming_.Length();
  if (session_ && bytes_unmarked_ < kProgressBytes) return false;
  bytes_unmarked_ = 0;
  return true;
}

void PutStream::Handle() {
  if (absl::Status status = CheckGoesOn(call_, gate_.clock()); !status.ok()) return End(status);
  absl::StatusOr<ParsedPut> message = ParsePut(incoming_);
  incoming_.Clear();
  if (!message.ok()) return End(message.status());
  message_ = *std::move(message);
  if (message_.kind == ParsedPut::Kind::kStart) {
    HandleStart();
  } else {
    HandleData();
  }
}

absl::Status PutStream::OpenSession() {
  if (session_) {
    return absl::InvalidArgumentError("start came twice; it must be first, and only first");
  }
  MNEMO_ASSIGN_OR_RETURN(const PutRequest request, FromProto(message_.start));
  MNEMO_ASSIGN_OR_RETURN(session_, blocks_.Put(call_, request));
  results_left_ = request.parts.size();
  message_.start.Clear();
  return absl::OkStatus();
}

void PutStream::HandleStart() {
  if (absl::Status status = OpenSession(); !status.ok()) return End(status);
  window_ = std::min(session_->bytes_wanted(), kWindow);
  if (Claim(window_, &PutStream::Granted)) Granted();
}

void PutStream::Granted() {
  granted_ = window_;
  SendGrant(/*first=*/true);
  SendResults(session_->TakeImmediateResults());
  if (results_left_ == 0) return End(absl::OkStatus());
  Read();
}

bool PutStream::IsUnwanted() const {
  const auto& verdicts = session_->verdicts();
  return message_.index < verdicts.size() && verdicts[message_.index].verdict != Verdict::kWant &&
         bytes_unwanted_ + message_.size <= kInitialCredit;
}

absl::Status PutStream::CheckData() const {
  if (!session_) return absl::InvalidArgumentError("data came before start");
  if (message_.size < 1 || message_.size > kMaxMessagePayload) {
    return absl::InvalidArgumentError(fmt::format("data is {} bytes long; it must be 1 to {}",
                                                  message_.size, kMaxMessagePayload));
  }
  const uint64_t allowed = std::max(granted_, kInitialCredit);
  if (bytes_seen() + message_.size > allowed) {
    return absl::InvalidArgumentError(fmt::format("{} bytes of payload were sent; {} were granted",
                                                  bytes_seen() + message_.size, allowed));
  }
  return absl::OkStatus();
}

absl::Status PutStream::TakeData() {
  if (IsUnwanted()) {
    bytes_unwanted_ += message_.size;
    return absl::OkStatus();
  }
  std::vector<PutResult> results;
  uint64_t offset = message_.offset;
  absl::Status status;
  for (const ByteView piece : message_.pieces) {
    status = session_->Data(message_.index, offset, piece, results);
    if (!status.ok()) break;
    offset += piece.size();
  }
  SendResults(std::move(results));
  return status;
}

void PutStream::HandleData() {
  absl::Status status = CheckData();
  if (status.ok()) status = TakeData();
  message_.pieces.clear();
  message_.received.Clear();
  if (!status.ok()) return End(status);
  if (results_left_ == 0) return End(absl::OkStatus());
  GrantMore();
  Read();
}

void PutStream::GrantMore() {
  const uint64_t ahead = granted_ - std::min(granted_, bytes_seen());
  if (granted_ >= bytes_to_come() || ahead > window_ / 2) return;
  granted_ = std::min(bytes_to_come(), bytes_seen() + window_);
  SendGrant(/*first=*/false);
}

void PutStream::EndOfInput() {
  if (!session_) return End(absl::InvalidArgumentError("the stream ended before start"));
  std::vector<PutResult> results;
  session_->Finish(results);
  SendResults(std::move(results));
  End(absl::OkStatus());
}

void PutStream::SendGrant(bool first) {
  v1::PutResponse response;
  response.mutable_grant()->set_bytes_granted(granted_);
  if (first) {
    for (const OfferVerdict& verdict : session_->verdicts()) {
      ToProto(verdict, response.mutable_grant()->add_verdicts());
    }
  }
  Enqueue(response);
}

void PutStream::SendResults(std::vector<PutResult> results) {
  for (const PutResult& result : results) {
    v1::PutResponse response;
    ToProto(result, response.mutable_result());
    Enqueue(response);
    --results_left_;
  }
}

}  // namespace mnemo
