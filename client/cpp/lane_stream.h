// One stream to a daemon: requests out, answers in, by id, and payload where it travels
// in the stream.
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
#include "mnemo/blocks.h"
#include "mnemo/options.h"
#include "proto/stream/messages.h"
#include "proto/stream/stream_socket.h"
#include "storage/base/busy_wait.h"
#include "storage/base/checksum.h"
#include "storage/base/descriptor.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

using LaneTime = std::chrono::steady_clock::time_point;

// Thread-safe. It has no thread: of the calls that wait, one reads for all.
class LaneStream {
 public:
  // Says hello over `socket`, which is connected. `busy_poll`: as of ClientOptions. Errors:
  // kUnavailable (lost), those of the daemon.
  static absl::StatusOr<std::unique_ptr<LaneStream>> Open(
      std::unique_ptr<stream::StreamSocket> socket, const stream::Hello& hello, Nanos busy_poll,
      LaneTime deadline, CancelSource* cancel);
  // No call is under way.
  ~LaneStream();
  LaneStream(const LaneStream&) = delete;
  LaneStream& operator=(const LaneStream&) = delete;

  struct Reply {
    std::string body;
    bool timed_out = false;  // it was cancelled because its deadline had passed
  };
  // Payload that travels in the stream: where that of a GET goes, by place, and where that
  // of a PUT lies, by part. Borrowed while the call lasts, and not touched after it.
  struct Payload {
    std::vector<MutableBytes> into;
    // Not null: of what has come, by place, made while it comes.
    std::vector<StreamingDigest128>* digests = nullptr;
    // Not null: bytes that have come, by place; set with the answer.
    std::vector<uint64_t>* came = nullptr;
    std::vector<Bytes> from;
  };
  // Sends a request and waits for its answer; first, while as many calls are under way as
  // the daemon takes, for the end of one. A call that is given up is cancelled at
  // the daemon, and waits for that: until then its memory is in use. A daemon that does
  // not answer to that within two seconds is one that was lost. `descriptor`: below 0
  // for none. Errors: kUnavailable (lost; the request may have been done),
  // kDeadlineExceeded and kCancelled (lost in this way).
  absl::StatusOr<Reply> Call(stream::FrameType type, const std::string& body, int descriptor,
                             LaneTime deadline, CancelSource* cancel) {
    return Call(type, body, descriptor, deadline, cancel, Payload());
  }
  absl::StatusOr<Reply> Call(stream::FrameType type, const std::string& body, int descriptor,
                             LaneTime deadline, CancelSource* cancel, const Payload& payload);

  // The region of `memory` in this stream, registered by the first who asks. Errors: as Call.
  absl::StatusOr<uint32_t> RegionOf(uint64_t memory, int descriptor, uint64_t bytes,
                                    LaneTime deadline, CancelSource* cancel);

  // Tells the daemon that it can no longer reach `memory`, if this stream has it.
  void Unregister(uint64_t memory);

  // It has ended; every call fails from now on.
  bool lost() const;
  // As many calls are under way as the daemon takes.
  bool full() const;

 private:
  struct Waiter;

  LaneStream(std::unique_ptr<stream::StreamSocket> socket, Descriptor wake, Descriptor wake_writer,
             Nanos busy_poll);
  // Until the waiter may be sent: then it is one of those under way.
  absl::Status AwaitTurn(Waiter& waiter, LaneTime deadline);
  // Sends a frame of `waiter` as a whole, or nothing of it; one that was begun and cannot be
  // ended has lost the stream. Errors: kUnavailable (lost), kDeadlineExceeded, kCancelled
  // (only of a call that was not told to the daemon to be).
  absl::Status Write(Waiter& waiter, const std::string& frame, int descriptor, LaneTime deadline,
                     Bytes payload = {});
  // `begun`: some of it was sent.
  absl::Status SendAll(Waiter& waiter, std::vector<iovec> pieces, int descriptor, LaneTime deadline,
                       bool& begun);
  // Waits for room in the socket, and no longer than until the waiter is cancelled.
  void AwaitRoom(LaneTime until);
  // Blocks until the waiter has its answer, or may send payload, or nothing is to be
  // expected any more.
  absl::Status Await(Waiter& waiter, LaneTime deadline);
  bool IsDone(const Waiter& waiter) const;
  bool IsGivenUp(const Waiter& waiter) const;
  void AwaitNoReader();
  // Sends payload as far as the waiter's credit goes.
  absl::Status SendPayload(Waiter& waiter, LaneTime deadline);
  // With the turn of reading: takes what is there, waiting for it until `until`.
  // False: the stream has ended.
  bool ReadSome(LaneTime until);
  // Takes what is there. False: nothing was. `good` is false if the stream has ended.
  bool TakeSome(bool& good);
  // Sleeps until something has come, or Wake was called.
  bool Sleep(LaneTime until);
  // False: it breaks the protocol.
  bool Deliver(const stream::Frame& frame);
  bool DeliverLocked(const stream::Frame& frame, Waiter& waiter)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Received Receive(MutableByteView into);

  const std::unique_ptr<stream::StreamSocket> socket_;
  const Descriptor wake_;         // an eventfd: interrupts who reads
  const Descriptor wake_writer_;  // another: interrupts who writes
  const SystemClock clock_;
  // Of who reads.
  stream::FrameReader reader_{stream::End::kClient};
  MutableBytes target_;                   // where payload goes
  StreamingDigest128* digest_ = nullptr;  // what else it goes to, or null
  BusyWait busy_;
  Mutex io_;  // under TLS, around calls to the socket, none of which waits; innermost

  mutable Mutex mutex_;
  CondVar changed_;
  std::map<uint64_t, Waiter*> waiters_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, uint32_t> regions_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  uint32_t max_under_way_ ABSL_GUARDED_BY(mutex_) = 1;  // until WELCOME says more
  uint32_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  const Waiter* writer_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool registering_ ABSL_GUARDED_BY(mutex_) = false;
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;
  std::string why_ ABSL_GUARDED_BY(mutex_) = "the stream to the daemon has ended";
};

}  // namespace mnemo::client
