// One stream: frames in, requests through the gate, answers out.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "proto/stream/frame.h"
#include "proto/stream/messages.h"
#include "server/engine/block_engine.h"
#include "server/gate/gate.h"
#include "server/identity/authenticator.h"
#include "server/identity/ticket_book.h"
#include "server/transfer/event_loop.h"
#include "server/transfer/peer.h"
#include "server/transfer/region_table.h"
#include "server/transfer/stream_observer.h"
#include "server/transfer/stream_request.h"
#include "storage/base/descriptor.h"
#include "storage/base/mutex.h"

namespace mnemo {

// By this name a ticket opens a stream over the UNIX socket, and no other.
inline constexpr std::string_view kFastPlane = "fast";

// What streams stand on; all of it outlives them.
struct StreamRooms {
  Gate& gate;
  BlockEngine& blocks;
  Authenticator& identity;
  TicketBook& tickets;
  RegionLedger& regions;
  StreamObserver& observer;
};

// Lives on one loop; what is not said otherwise is called on its thread. Owned by the
// server, which destroys it in a task of the loop when `gone` was called: that is
// after the last of its requests has ended.
//
// Whoever has a request's turn may answer, on any thread. One thread at a time writes
// to the socket, without a lock: whoever found nobody at it, until all is written or
// the socket is full; then the loop goes on.
class StreamConnection final : public EventLoop::Handler, private WatchedStream {
 public:
  static constexpr uint32_t kMaxRequests = 64;  // under way

  // `gone` is called once, on any thread, as the last thing of all.
  StreamConnection(const StreamRooms& rooms, CopyCrew& copies, EventLoop& loop, Descriptor socket,
                   Peer peer, std::function<void(StreamConnection&)> gone);
  ~StreamConnection() override;

  // Begins to read. Errors: kResourceExhausted; it is `gone` then.
  void Start();
  void OnEvents(uint32_t events) override;
  // Ends when what is under way has been answered.
  void Drain();
  // Ends at once, telling the peer why; requests under way are cancelled.
  void Close(stream::CloseReason reason, std::string_view message);

 private:
  struct Outgoing {
    std::string bytes;
    size_t sent = 0;
    Descriptor descriptor;
  };

  bool OnStalled() override;

  void ReadSome();
  // False: nothing more is to be read.
  bool ReadOnce();
  void HandleFrames();
  void Handle(const stream::Frame& frame);
  void Greet(const stream::Frame& frame);
  absl::StatusOr<Identity> WhoIs(const stream::Hello& hello);
  absl::StatusOr<std::string> WelcomeFor(const stream::Hello& hello);
  void Cancel(uint64_t id);
  void StartRequest(const stream::Frame& frame);
  // The request came past the gate, and is registered.
  void Begin(StreamRequest& request);
  // Whether the caller may, and what it holds fits.
  absl::Status Admit(StreamRequest& request);
  void UpdateWait();

  // Of any thread.
  void Submit(StreamRequest& request);
  void Execute(StreamRequest& request);
  void Finish(StreamRequest& request);
  void Send(std::string frame, Descriptor descriptor = {});
  // Has the turn of writing. Returns when it has passed it on.
  void WriteAll();
  // Wrote some of the front, or could not. True: the turn goes on.
  bool WroteLocked(ssize_t sent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The loop closes it soon.
  void CloseSoonLocked(stream::CloseReason reason, std::string message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whoever worked on it does so no more; it may be gone afterwards.
  void Leave();
  void ChangeInterestLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const StreamRooms rooms_;
  CopyCrew& copies_;
  EventLoop& loop_;
  const Descriptor socket_;
  const uid_t uid_;
  const pid_t pid_;  // of who connected; 0: not known
  const std::function<void(StreamConnection&)> gone_;

  // Of the loop's thread alone.
  stream::FrameReader reader_{stream::End::kServer};
  std::deque<Descriptor> descriptors_;  // that came, and belong to no frame yet
  Peer peer_;                           // until its regions have it
  bool greeted_ = false;
  // Whether what was read last, and all of the frame under way, is of pid_'s process.
  bool read_own_ = false;
  bool frame_own_ = true;
  Identity identity_;
  std::unique_ptr<RegionTable> regions_;  // made once it is known who it is
  ByteBudget::Claim incoming_;            // of a long frame that comes in
  size_t marked_ = 0;                     // bytes of the frame under way when its wait began last

  Mutex mutex_;  // taken after the watchdog's; before the loop's
  std::map<uint64_t, std::unique_ptr<StreamRequest>> requests_ ABSL_GUARDED_BY(mutex_);
  std::deque<Outgoing> outgoing_ ABSL_GUARDED_BY(mutex_);
  uint64_t outgoing_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  ByteBudget::Claim outgoing_claim_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;  // somebody has the turn, or the loop
  bool blocked_ ABSL_GUARDED_BY(mutex_) = false;  // the loop has it: the socket is full
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // Requests that have not ended, and who else works on it: it stays meanwhile.
  uint32_t working_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t interest_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mnemo
