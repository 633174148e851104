// One stream to the daemon of this host: requests out, answers in, by id.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/cancel.h"
#include "mnemo/options.h"
#include "proto/stream/messages.h"
#include "storage/base/busy_wait.h"
#include "storage/base/descriptor.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

using LaneTime = std::chrono::steady_clock::time_point;

// Thread-safe. It has no thread: of the calls that wait, one reads for all.
class LaneStream {
 public:
  // Connects and says hello. `busy_poll`: as of ClientOptions. Errors: kUnavailable (nobody there),
  // those of the daemon.
  static absl::StatusOr<std::unique_ptr<LaneStream>> Connect(const std::string& path,
                                                             const stream::Hello& hello,
                                                             Nanos busy_poll, LaneTime deadline,
                                                             CancelSource* cancel);
  // No call is under way.
  ~LaneStream();
  LaneStream(const LaneStream&) = delete;
  LaneStream& operator=(const LaneStream&) = delete;

  struct Reply {
    std::string body;
    bool timed_out = false;  // it was cancelled because its deadline had passed
  };
  // Sends a request and waits for its answer. A call that is given up is cancelled at
  // the daemon, and waits for that: until then its memory is in use. A daemon that does
  // not answer to that within two seconds is one that was lost. `descriptor`: below 0
  // for none. Errors: kUnavailable (lost; the request may have been done),
  // kDeadlineExceeded and kCancelled (lost in this way).
  absl::StatusOr<Reply> Call(stream::FrameType type, const std::string& body, int descriptor,
                             LaneTime deadline, CancelSource* cancel);

  // The region of `memory` in this stream, registered by the first who asks.
  absl::StatusOr<uint32_t> RegionOf(uint64_t memory, int descriptor, uint64_t bytes,
                                    LaneTime deadline);

  // Tells the daemon that it can no longer reach `memory`, if this stream has it.
  void Unregister(uint64_t memory);

  // It has ended; every call fails from now on.
  bool lost() const;

 private:
  struct Waiter;

  LaneStream(Descriptor socket, Descriptor wake, Nanos busy_poll);
  absl::Status Write(const std::string& frame, int descriptor, LaneTime deadline);
  absl::Status SendAll(const std::string& frame, int descriptor, LaneTime deadline) const;
  // Blocks until the waiter has its answer, or nothing is to be expected any more.
  absl::Status Await(Waiter& waiter, LaneTime deadline);
  // With the turn of reading: takes what is there, waiting for it until `until`.
  // False: the stream has ended.
  bool ReadSome(LaneTime until, std::vector<stream::Frame>& frames);
  // Sleeps until something has come, or Wake was called.
  bool Sleep(LaneTime until);
  void Wake();

  const Descriptor socket_;
  const Descriptor wake_;  // an eventfd: interrupts who reads
  const SystemClock clock_;
  // Of who reads.
  stream::FrameReader reader_{stream::End::kClient};
  BusyWait busy_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::map<uint64_t, Waiter*> waiters_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, uint32_t> regions_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool registering_ ABSL_GUARDED_BY(mutex_) = false;
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;
  std::string why_ ABSL_GUARDED_BY(mutex_) = "the stream to the daemon has ended";
};

}  // namespace mnemo::client
