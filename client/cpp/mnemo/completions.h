// The ends of asynchronous calls for an engine that polls descriptors.
//
//   auto ends = CompletionQueue::Create();
//   client->async_blocks().Get(request, (*ends)->For<GetResult>(7));
//   ... poll (*ends)->event_fd() for reading ...
//   for (auto& [tag, result] : (*ends)->Drain()) ...
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "mnemo/client.h"

namespace mnemo::client {

// Thread-safe. It may go before its calls end: then what they come to is dropped, but the
// memory of their requests must stay until they have ended.
class CompletionQueue {
 public:
  using Result = std::variant<absl::StatusOr<MatchResult>, absl::StatusOr<OfferResult>,
                              absl::StatusOr<GetResult>, absl::StatusOr<PutResult>>;
  struct Completion {
    uint64_t tag;
    Result result;
  };

  // Errors: kResourceExhausted (no descriptor is left).
  static absl::StatusOr<std::unique_ptr<CompletionQueue>> Create();

  // Readable while there are completions to drain. The queue's; nobody else reads it.
  int event_fd() const;
  // What a call is given to end here, under `tag`, which need not be unique.
  template <typename T>
  Done<T> For(uint64_t tag) {
    return [add = Adder(), tag](absl::StatusOr<T> result) { add({tag, std::move(result)}); };
  }
  // What has ended since the last time, in that order. Does not wait.
  std::vector<Completion> Drain();

 private:
  class Ends;
  explicit CompletionQueue(std::shared_ptr<Ends> ends) : ends_(std::move(ends)) {}
  std::function<void(Completion)> Adder();

  // Shared with the calls under way, which may outlive this.
  const std::shared_ptr<Ends> ends_;
};

}  // namespace mnemo::client
