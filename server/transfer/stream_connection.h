// One stream: frames in, requests through the gate, answers out.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/stream/frame.h"
#include "proto/stream/messages.h"
#include "proto/stream/stream_socket.h"
#include "server/engine/block_engine.h"
#include "server/gate/gate.h"
#include "server/identity/authenticator.h"
#include "server/identity/ticket_book.h"
#include "server/transfer/event_loop.h"
#include "server/transfer/peer.h"
#include "server/transfer/region_table.h"
#include "server/transfer/stream_observer.h"
#include "server/transfer/stream_request.h"
#include "storage/base/mutex.h"

namespace mnemo {

// By this name a ticket opens a stream over the UNIX socket, or over TCP, and no other.
inline constexpr std::string_view kFastPlane = "fast";
inline constexpr std::string_view kBulkPlane = "tcp";

// Where a stream comes from.
struct StreamOrigin {
  std::string plane;    // kFastPlane: of this host, or kBulkPlane: payload travels in it
  std::string address;  // for the log: "unix:uid=1000", "ipv4:10.0.0.7:4711"
  Peer peer;            // of kFastPlane
};

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
// the socket is full; then the loop goes on. Under TLS only the loop writes.
//
// Of the PUTs whose payload comes in the stream, one at a time receives, and the others
// wait for it: they share one wire. Its turn is the loop's while it does.
class StreamConnection final : public EventLoop::Handler,
                               private WatchedStream,
                               private PayloadStream {
 public:
  static constexpr uint32_t kMaxRequests = 64;  // under way

  // `gone` is called once, on any thread, as the last thing of all.
  StreamConnection(const StreamRooms& rooms, CopyCrew& copies, EventLoop& loop,
                   std::unique_ptr<stream::StreamSocket> socket, StreamOrigin origin,
                   std::function<void(StreamConnection&)> gone);
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
    std::string bytes;    // of a frame: all of it, or what stands before its payload
    PinnedBytes payload;  // in pieces
    uint64_t sent = 0;    // of both
    Descriptor descriptor;
    uint64_t id = 0;                // of the request whose payload it is
    StreamRequest* then = nullptr;  // waits until this has left
    uint64_t size() const { return bytes.size() + payload.size(); }
  };

  bool OnStalled() override;
  void OnOverdue() override;
  // The request that receives is not done any more; what was credited is taken off the
  // stream without memory for it.
  void StopOverdue();

  void SendPayload(uint64_t id, uint32_t index, uint64_t offset, const PinnedBytes& bytes) override;
  bool AwaitSent(StreamRequest& request) override;

  void ReadSome();
  // False: nothing more is to be read.
  bool ReadOnce();
  // The peer has gone, or no TLS came about.
  void Lost();
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

  // Payload that comes; in stream_payload.cc.
  bool ReadPayload();
  void HandleData(const stream::Frame& frame);
  // Whether what the DATA frame under way says may come; if not yet, nothing is read.
  void JudgeData();
  // The request takes its turn to the loop.
  void BeginReceiving(StreamRequest& request);
  // It has given payload to the request that receives, or has just got it.
  void GoOnReceiving();
  // A PUT waits for the one that receives, if there is one.
  void SubmitPut(StreamRequest& request);
  // The PUT that had the turn has ended.
  void PutEnded();
  void SetPaused(bool paused);
  // Those that wait on the loop, for its closing; they are its caller's to end.
  void TakeWaitingPuts(std::vector<StreamRequest*>& waiting);

  // Of any thread.
  void Submit(StreamRequest& request);
  void GoOn(StreamRequest& request, StreamRequest::Progress progress);
  void Execute(StreamRequest& request);
  void Finish(StreamRequest& request);
  void Send(std::string frame, Descriptor descriptor = {});
  void Enqueue(Outgoing outgoing);
  // Has the turn of writing. Returns when it has passed it on.
  void WriteAll();
  // What goes with the next call to the socket, of the front and what is behind it.
  // Answers the descriptor that goes along, or -1.
  int GatherLocked(std::vector<iovec>& pieces) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Wrote some of the front, or could not. True: the turn goes on. `done`: whose payload
  // has left.
  bool WroteLocked(ssize_t sent, std::vector<StreamRequest*>& done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropOutgoingLocked(std::vector<StreamRequest*>& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PayloadLeft(const std::vector<StreamRequest*>& done);
  // The loop closes it soon.
  void CloseSoonLocked(stream::CloseReason reason, std::string message)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whoever worked on it does so no more; it may be gone afterwards.
  void Leave();
  void ChangeInterestLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const StreamRooms rooms_;
  CopyCrew& copies_;
  EventLoop& loop_;
  const std::unique_ptr<stream::StreamSocket> socket_;
  const bool bulk_;  // payload travels in it
  const std::string address_;
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
  uint64_t received_ = 0;                 // bytes, ever
  uint64_t marked_ = 0;                   // of them, when the wait for more began last
  StreamRequest* receiver_ = nullptr;     // that is given the payload that comes
  std::optional<uint64_t> putting_;       // the PUT that receives, wherever its turn is
  std::deque<StreamRequest*> waiting_puts_;
  uint64_t data_id_ = 0;  // of the DATA frame under way
  stream::Data data_;     // what it says

  Mutex mutex_;  // taken after the watchdog's; before the loop's
  std::map<uint64_t, std::unique_ptr<StreamRequest>> requests_ ABSL_GUARDED_BY(mutex_);
  std::deque<Outgoing> outgoing_ ABSL_GUARDED_BY(mutex_);
  uint64_t outgoing_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  ByteBudget::Claim outgoing_claim_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;  // somebody has the turn, or the loop
  bool blocked_ ABSL_GUARDED_BY(mutex_) = false;  // the loop has it: the socket is full
  // What comes next is for somebody who is not ready: nothing is read.
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // Requests that have not ended, and who else works on it: it stays meanwhile.
  uint32_t working_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t interest_ ABSL_GUARDED_BY(mutex_) = 0;
  bool registered_ ABSL_GUARDED_BY(mutex_) = false;  // with the loop
};

}  // namespace mnemo
