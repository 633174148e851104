// The streams of a client: which calls go by them, and who carries each: the fast lane of
// the host, or TCP with the payload in the stream.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cpp/calibrations.h"
#include "client/cpp/lane_stream.h"
#include "client/cpp/memory_registry.h"
#include "mnemo/blocks.h"
#include "mnemo/options.h"

namespace mnemo::client {

// How a stream is come by. Errors: kFailedPrecondition, kUnimplemented (the daemon has
// none: it is not asked again soon), others.
struct LaneAddress {
  std::string path;         // of kFast
  std::string tcp_address;  // of kBulk
  bool tls = false;         // of kBulk
  std::string ticket;       // empty: by uid
};
// For kFast or kBulk.
using AskForLane = std::function<absl::StatusOr<LaneAddress>(Plane, LaneTime, CancelSource*)>;

// Brings calibrations into the cache, and answers which it could not bring.
using AskForCalibrations = std::function<CalibrationFailures(
    const SpaceRef&, const std::set<uint32_t>&, LaneTime, CancelSource*)>;

// How long nobody tries to open a stream after it failed: each failure in a row doubles the
// pause of calls that can go another way. Not thread-safe.
class OpeningPause {
 public:
  void Failed(LaneTime now, const absl::Status& why);
  void Succeeded();
  // Why a call does not try now. `must`: it can go no other way, and tries after the
  // first pause.
  absl::Status Check(LaneTime now, bool must) const;

 private:
  absl::Status failure_;
  LaneTime failed_;
  std::chrono::seconds pause_{0};
  std::chrono::seconds patient_pause_{0};
  std::chrono::seconds next_{1};
};

// Thread-safe. A call that does not go by a lane answers nothing here: because it was
// told so, its memory is not shared, no stream can be had (another call is opening it, or
// as many calls as it takes are under way), or the stream was lost in the
// middle of a call that may be repeated.
class Lane {
 public:
  Lane(const ClientOptions& options, AskForLane ask, const CalibrationCache& calibrations,
       AskForCalibrations ask_for_calibrations);

  MemoryRegistry& memory() { return memory_; }

  template <typename Result>
  using Outcome = std::optional<absl::StatusOr<Result>>;
  Outcome<MatchResult> Match(const MatchRequest& request, const CallOptions& options);
  Outcome<OfferResult> Offer(const OfferRequest& request, const CallOptions& options);
  Outcome<GetResult> Get(const GetRequest& request, const CallOptions& options);
  Outcome<PutResult> Put(const PutRequest& request, const CallOptions& options);
  Outcome<uint32_t> Touch(const KeysRequest& request, const CallOptions& options);
  Outcome<PrefetchResult> Prefetch(const PrefetchRequest& request, const CallOptions& options);

 private:
  // One call's way. `stream` is null: it does not go by the lane, and if `refused` is
  // an error, it goes no other way either.
  struct Way {
    std::shared_ptr<LaneStream> stream;
    absl::Status refused;
    LaneTime deadline;
    bool must = false;
    Plane plane = Plane::kFast;
  };
  // One stream, or none yet.
  struct Link {
    // Calls keep a stream that was lost until they have noticed: hence shared.
    std::shared_ptr<LaneStream> stream;
    bool connecting = false;
    OpeningPause pause;
  };
  // What a call needs: memory that is shared, where it has payload; whole parts.
  struct Needs {
    bool shared = true;
    bool whole = true;
    bool payload = false;  // it has some
  };
  static absl::Status CheckFits(Plane plane, const Needs& needs);
  Way FindWay(const CallOptions& options, Millis standard, const Needs& needs);
  // `must`: it waits for another call that opens the stream.
  absl::StatusOr<std::shared_ptr<LaneStream>> Stream(Plane plane, bool must, LaneTime deadline,
                                                     CancelSource* cancel);
  absl::StatusOr<std::shared_ptr<LaneStream>> Connect(Plane plane, LaneTime deadline,
                                                      CancelSource* cancel);
  absl::StatusOr<std::vector<stream::Place>> PlacesOf(const Way& way,
                                                      const std::vector<MemoryRegistry::Place>& at,
                                                      CancelSource* cancel);
  // Sends, and reads the answer into `body` and `answer`, which is views of it.
  template <typename Answer>
  absl::Status Ask(const Way& way, stream::FrameType type, const std::string& request,
                   CancelSource* cancel, std::string& body, Answer& answer,
                   const LaneStream::Payload& payload = {});

  // The results of parts that lie in their places, decoded where they came encoded.
  // `digests`: of what came, by part; empty where it was not digested as it came.
  GetResult ResultOf(const GetRequest& request, const Way& way, const stream::GetAnswer& answer,
                     const std::vector<StreamingDigest128>& digests, CancelSource* cancel);

  const ClientOptions options_;
  const AskForLane ask_;
  const CalibrationCache& calibrations_;
  const AskForCalibrations ask_for_calibrations_;
  MemoryRegistry memory_;
  Mutex mutex_;
  CondVar changed_;
  Link fast_ ABSL_GUARDED_BY(mutex_);
  std::vector<Link> bulk_ ABSL_GUARDED_BY(mutex_);  // taken in turn
  size_t turn_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mnemo::client
