#include "client/cpp/context_writer.h"

#include <random>
#include <utility>

#include "client/cpp/call.h"
#include "client/cpp/convert_context.h"
#include "storage/base/status_macros.h"

namespace mnemo::client {
namespace {

// Batches that may be unanswered, of some 1 MiB each.
constexpr size_t kWindow = 16;

uint64_t RandomId() {
  std::random_device random;
  return (uint64_t{random()} << 32 | random()) | 1;
}

}  // namespace

ContextWriter::Impl::Impl(Core& core, const ContextRef& context, uint32_t dimension,
                          const WriterOptions& options)
    : core_(core),
      life_(core, std::chrono::system_clock::now() + options.timeout, options.cancel),
      dimension_(dimension),
      next_(options.first_position),
      acknowledged_(options.first_position.value_or(0)) {
  *start_.mutable_start()->mutable_context() = ToMessage(context);
  start_.mutable_start()->set_writer_id(options.writer_id != 0 ? options.writer_id : RandomId());
  start_.mutable_start()->set_durability(static_cast<v1::Durability>(options.durability));
}

ContextWriter::Impl::~Impl() {
  if (stream_ == nullptr) return;
  life_.Cancel();
  (void)EndStream();
}

absl::Status ContextWriter::Impl::EndStream() {
  v1::AppendResponse answer;
  // A call ends for its client when all answers are read.
  while (stream_->Read(&answer)) {
  }
  const grpc::Status status = stream_->Finish();
  stream_.reset();
  if (status.ok()) return absl::InternalError("the daemon ended the stream without a reason");
  return FromGrpc(status);
}

absl::Status ContextWriter::Impl::Connect() {
  context_ = &life_.NewContext();
  stream_ = core_.NextConnection().contexts->Append(context_);
  v1::AppendResponse answer;
  if (!stream_->Write(start_) || !stream_->Read(&answer) || !answer.has_ready()) {
    return EndStream();
  }
  if (!next_) next_ = acknowledged_ = answer.ready().next_position();
  ForgetStored(answer.ready().next_position());
  for (size_t i = 0; i < unanswered_.size(); ++i) MNEMO_RETURN_IF_ERROR(Send(i));
  return absl::OkStatus();
}

void ContextWriter::Impl::ForgetStored(uint64_t next_position) {
  const auto stored = [next_position](const v1::AppendRequest& request) {
    return request.tokens().first_position() + request.tokens().count() <= next_position;
  };
  while (unanswered_.size() > 1 && stored(unanswered_[1])) {
    unanswered_.pop_front();
    ++repeated_;
  }
}

absl::Status ContextWriter::Impl::Send(size_t index) {
  if (stream_->Write(unanswered_[index])) return absl::OkStatus();
  return EndStream();
}

absl::Status ContextWriter::Impl::ReadAnswer() {
  v1::AppendResponse answer;
  if (!stream_->Read(&answer) || !answer.has_ack()) return EndStream();
  const v1::TokenBatch& batch = unanswered_.front().tokens();
  acknowledged_ = batch.first_position() + batch.count();
  if (answer.ack().repeated_batch()) ++repeated_;
  unanswered_.pop_front();
  attempts_ = 0;
  core_.budget().OnSuccess();
  return absl::OkStatus();
}

template <typename Step>
absl::Status ContextWriter::Impl::WithRetries(Step step) {
  if (!failed_.ok()) return failed_;
  absl::Status status = stream_ == nullptr ? Connect() : step();
  while (!status.ok()) {
    const bool affordable = core_.budget().OnFailure();
    const AttemptFailure failure{
        .code = status.code(), .repeatable = true, .attempts = ++attempts_};
    const auto delay = RetryDelay(core_.options().retry, failure, core_.Random());
    if (!affordable || !delay || life_.cancelled()) {
      failed_ = status;
      return status;
    }
    life_.Pause(*delay);
    status = Connect();
  }
  return absl::OkStatus();
}

absl::Status ContextWriter::Impl::Open() {
  return WithRetries([] { return absl::OkStatus(); });
}

absl::Status ContextWriter::Impl::Append(const TokenColumns& tokens) {
  if (!failed_.ok()) return failed_;
  MNEMO_ASSIGN_OR_RETURN(auto messages, ToMessages(tokens, dimension_, *next_));
  for (v1::AppendRequest& message : messages) {
    while (unanswered_.size() >= kWindow) {
      MNEMO_RETURN_IF_ERROR(WithRetries([this] { return ReadAnswer(); }));
    }
    *next_ += message.tokens().count();
    unanswered_.push_back(std::move(message));
    MNEMO_RETURN_IF_ERROR(WithRetries([this] { return Send(unanswered_.size() - 1); }));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> ContextWriter::Impl::Flush() {
  if (!failed_.ok()) return failed_;
  while (!unanswered_.empty()) {
    MNEMO_RETURN_IF_ERROR(WithRetries([this] { return ReadAnswer(); }));
  }
  return *next_;
}

ContextWriter::ContextWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ContextWriter::~ContextWriter() = default;
absl::Status ContextWriter::Append(const TokenColumns& tokens) { return impl_->Append(tokens); }
absl::StatusOr<uint64_t> ContextWriter::Flush() { return impl_->Flush(); }
uint64_t ContextWriter::acknowledged() const { return impl_->acknowledged(); }
uint64_t ContextWriter::repeated_batches() const { return impl_->repeated_batches(); }

}  // namespace mnemo::client
