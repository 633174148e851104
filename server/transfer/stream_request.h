// A request of a stream: what it asks for, its steps, and its answer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "proto/stream/frame.h"
#include "proto/stream/messages.h"
#include "server/engine/block_engine.h"
#include "server/engine/byte_budget.h"
#include "server/gate/gate.h"
#include "server/transfer/copy_crew.h"
#include "server/transfer/region_table.h"
#include "storage/base/descriptor.h"

namespace mnemo {

class StreamRequest;

// The stream of a request, for payload that travels in it. Thread-safe.
class PayloadStream {
 public:
  virtual ~PayloadStream() = default;
  // Sends `bytes` of part `index`, from `offset` on, as the payload of request `id`; they
  // stay pinned until they have left.
  virtual void SendPayload(uint64_t id, uint32_t index, uint64_t offset,
                           const PinnedBytes& bytes) = 0;
  // False: all payload of `request` has left. True: it goes on once it has, or before:
  // the request may be gone.
  virtual bool AwaitSent(StreamRequest& request) = 0;
};

// A request that payload comes for in the stream, while it Receives. Of the loop's thread.
class PayloadTaker {
 public:
  virtual ~PayloadTaker() = default;
  // What the client is to be told it may send, once.
  virtual std::optional<stream::Credit> TakeCredit() = 0;
  // Whether so much payload may come now; otherwise why the stream must end.
  virtual stream::CloseReason Judge(const stream::Data& data, uint32_t bytes) const = 0;
  // Some of the next `most` bytes of it, as PartWriter::Fill. Errors: those of `bring`.
  virtual absl::StatusOr<uint64_t> Take(uint64_t most, const PartWriter::Bring& bring) = 0;
};

// What requests stand on. All of it outlives them.
struct RequestRooms {
  Gate& gate;
  BlockEngine& blocks;
  RegionTable& regions;
  CopyCrew& copies;
  // Not null: a stream of another host, perhaps. Payload travels in it, and no memory is
  // registered.
  PayloadStream* payload = nullptr;
};

// Has one turn, which passes between the loop's thread, the executor and a claim on
// the byte budget. Only `call().cancelled` and Withdraw are for any thread.
class StreamRequest {
 public:
  enum class Progress : uint8_t {
    kDone,       // the answer stands
    kElsewhere,  // goes on with Run, on the executor
    kWaits,      // `resume` will be called, or has been: the request may be gone
    kReceives,   // goes on with what its taker is given on the loop's thread
  };

  // Null for a type that is no request, or a body that is malformed.
  static std::unique_ptr<StreamRequest> Create(const RequestRooms& rooms,
                                               const stream::Header& header, ByteView body);
  virtual ~StreamRequest() = default;

  // The method whose rule decides.
  virtual const MethodRule& rule() const = 0;
  // Whether a descriptor must come with it; then Bring it before the first step.
  virtual bool WantsDescriptor() const { return false; }
  virtual void Bring(Descriptor) {}
  // Another process than the one that connected wrote the frame, or some of it.
  virtual void OnForeignSender() {}

  // What is called when bytes that Run waited for are granted. Before the first step.
  void OnResume(std::function<void()> resume) { resume_ = std::move(resume); }
  // The first step, on the loop's thread: does not wait for anything.
  virtual Progress Begin() { return Progress::kElsewhere; }
  // A step that may wait for the disk.
  virtual Progress Run() = 0;
  // In the place of a step, when it must not go on: kDone, or kReceives if payload has
  // to be taken off the stream before.
  virtual Progress Stop() { return Progress::kDone; }
  // The payload that it awaited has left. True: its answer stands; false: it goes on with
  // Run.
  virtual bool AllSent() { return false; }
  // Not null for one whose payload comes in the stream.
  virtual PayloadTaker* taker() { return nullptr; }
  // It is the one of its stream that payload comes for, from before its first Run on.
  void TakeTurn() { has_turn_ = true; }
  bool has_turn() const { return has_turn_; }
  // What comes after payload was taken: kReceives, kElsewhere or kDone.
  virtual Progress AfterPayload() { return Progress::kDone; }

  // Ends it with `error`, whatever it has answered.
  void Fail(const absl::Status& error) { status_ = error; }
  // Counts what it keeps beyond its first step. False: there is no room for it now.
  bool Hold() { return held_.TryAdd(sizeof(*this) + body_.size()); }
  // True if it waited for bytes: whoever withdraws has its turn now.
  bool Withdraw() { return claim_.Withdraw(); }

  const stream::Header& header() const { return header_; }
  CallContext& call() { return call_; }
  MonoTime started() const { return started_; }
  const absl::Status& status() const { return status_; }
  // The whole frame, and what goes with it.
  std::string TakeAnswer();
  Descriptor TakeDescriptor() { return std::move(for_peer_); }

 protected:
  StreamRequest(const RequestRooms& rooms, const stream::Header& header, ByteView body)
      : rooms_(rooms),
        header_(header),
        body_(AsText(body)),
        claim_(rooms.gate.bytes()),
        held_(rooms.gate.bytes()),
        started_(rooms.gate.clock().Mono()) {}

  // Views of it live as long as the request.
  ByteView body() const { return AsBytes(body_); }
  virtual bool Parse() = 0;
  // The body of a good answer.
  virtual std::string Answer() const = 0;

  // Ends it, or goes on where `status` is OK.
  Progress Done(const absl::Status& status) {
    status_ = status;
    return Progress::kDone;
  }
  // Claims `bytes` in the place of what was claimed before. kQueued: it may be gone.
  ByteBudget::Claim::Outcome Claim(uint64_t bytes);
  // Gives back all of that but what the request itself takes.
  void Unclaim();

  const RequestRooms rooms_;
  CallContext call_;
  Descriptor for_peer_;

 private:
  const stream::Header header_;
  const std::string body_;
  std::function<void()> resume_;
  ByteBudget::Claim claim_;  // of bytes between levels and the client
  ByteBudget::Claim held_;   // of the request itself
  const MonoTime started_;
  absl::Status status_;
  bool has_turn_ = false;
};

}  // namespace mnemo
