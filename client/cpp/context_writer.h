// The stream of a ContextWriter: a window of batches that are not answered.
#pragma once

#include <deque>
#include <memory>

#include "absl/status/statusor.h"
#include "client/cpp/blocking_stream.h"
#include "client/cpp/core.h"
#include "mnemo/contexts.h"
#include "mnemo/v1/context.grpc.pb.h"

namespace mnemo::client {

// Not thread-safe. One thread writes and reads in turn: the server answers each
// batch in order and its answers are small, so with fewer batches out than it
// queues answers, neither side can wait for the other for ever.
class ContextWriter::Impl {
 public:
  Impl(Core& core, const ContextRef& context, uint32_t dimension, const WriterOptions& options);
  // Cancels the stream if it has not ended.
  ~Impl();

  // Opens the stream for the first time.
  absl::Status Open();
  absl::Status Append(const TokenColumns& tokens);
  absl::StatusOr<uint64_t> Flush();
  uint64_t acknowledged() const { return acknowledged_; }
  uint64_t repeated_batches() const { return repeated_; }

 private:
  using Stream = grpc::ClientReaderWriterInterface<v1::AppendRequest, v1::AppendResponse>;

  // One try: a new stream, on which what is unanswered is sent again, from the
  // last batch on that is stored already.
  absl::Status Connect();
  // Keeps of what is stored the last batch, which stands for those before it.
  void ForgetStored(uint64_t next_position);
  // Takes one answer.
  absl::Status ReadAnswer();
  // Sends the unanswered batch `index`.
  absl::Status Send(size_t index);
  // Why the stream broke off.
  absl::Status EndStream();
  // Repeats `step` over new streams until it succeeds, or must not be repeated.
  template <typename Step>
  absl::Status WithRetries(Step step);

  Core& core_;
  BlockingStream life_;
  const uint32_t dimension_;
  v1::AppendRequest start_;
  std::optional<uint64_t> next_;  // position of the next token
  grpc::ClientContext* context_ = nullptr;
  std::unique_ptr<Stream> stream_;
  std::deque<v1::AppendRequest> unanswered_;
  uint64_t acknowledged_ = 0;
  uint64_t repeated_ = 0;
  int attempts_ = 0;  // since something was acknowledged
  absl::Status failed_;
};

}  // namespace mnemo::client
