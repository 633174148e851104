// The fast lane of a client: which calls go by it, and the stream that carries them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cpp/lane_stream.h"
#include "client/cpp/memory_registry.h"
#include "mnemo/blocks.h"
#include "mnemo/options.h"

namespace mnemo::client {

// How a stream is come by. Errors: kFailedPrecondition, kUnimplemented (the daemon has
// none: it is not asked again soon), others.
struct LaneAddress {
  std::string path;
  std::string ticket;  // empty: by uid
};
using AskForLane = std::function<absl::StatusOr<LaneAddress>(LaneTime, CancelSource*)>;

// Thread-safe. A call that does not go by the lane answers nothing here: because it was
// told so, its memory is not shared, no stream can be had, or the stream was lost in the
// middle of a call that may be repeated.
class Lane {
 public:
  Lane(const ClientOptions& options, AskForLane ask);

  MemoryRegistry& memory() { return memory_; }

  template <typename Result>
  using Outcome = std::optional<absl::StatusOr<Result>>;
  Outcome<MatchResult> Match(const MatchRequest& request, const CallOptions& options);
  Outcome<OfferResult> Offer(const OfferRequest& request, const CallOptions& options);
  Outcome<GetResult> Get(const GetRequest& request, const CallOptions& options);
  Outcome<PutResult> Put(const PutRequest& request, const CallOptions& options);
  Outcome<uint32_t> Touch(const KeysRequest& request, const CallOptions& options);

 private:
  // One call's way. `stream` is null: it does not go by the lane, and if `refused` is
  // an error, it goes no other way either.
  struct Way {
    std::shared_ptr<LaneStream> stream;
    absl::Status refused;
    LaneTime deadline;
    bool must = false;
  };
  Way FindWay(const CallOptions& options, Millis standard, bool shared);
  absl::StatusOr<std::shared_ptr<LaneStream>> Stream(LaneTime deadline, CancelSource* cancel);
  absl::StatusOr<std::shared_ptr<LaneStream>> Connect(LaneTime deadline, CancelSource* cancel);
  absl::StatusOr<std::vector<stream::Place>> PlacesOf(LaneStream& stream,
                                                      const std::vector<MemoryRegistry::Place>& at,
                                                      LaneTime deadline);
  // Sends, and reads the answer into `body` and `answer`, which is views of it.
  template <typename Answer>
  absl::Status Ask(const Way& way, stream::FrameType type, const std::string& request,
                   CancelSource* cancel, std::string& body, Answer& answer);

  const ClientOptions options_;
  const AskForLane ask_;
  MemoryRegistry memory_;
  Mutex mutex_;
  CondVar changed_;
  // Calls keep a stream that was lost until they have noticed: hence shared.
  std::shared_ptr<LaneStream> stream_ ABSL_GUARDED_BY(mutex_);
  bool connecting_ ABSL_GUARDED_BY(mutex_) = false;
  LaneTime not_before_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo::client
