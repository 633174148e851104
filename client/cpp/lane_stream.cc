#include "client/cpp/lane_stream.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <span>
#include <utility>

#include "storage/base/iovecs.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo::client {
namespace {

using stream::FrameType;

// How long a daemon may take to answer what was cancelled.
constexpr std::chrono::seconds kGrace(2);
constexpr int64_t kLongestWaitMs = 60'000;
// Of payload, taken at once: it is digested while the processor's cache has it.
constexpr size_t kTakeBytes = 256 * kKiB;

int PollMillis(LaneTime until) {
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, kLongestWaitMs));
}

void Wake(const Descriptor& event) {
  const uint64_t one = 1;
  // Full means that it is awake already.
  if (::write(event.get(), &one, sizeof(one)) < 0) return;
}
// False: it cannot be read any more.
bool Calm(const Descriptor& event) {
  uint64_t count = 0;
  return ::read(event.get(), &count, sizeof(count)) >= 0 || errno == EAGAIN;
}

}  // namespace

struct LaneStream::Waiter final : Cancellable {
  explicit Waiter(LaneStream& of) : stream(of) {}
  void Cancel() override {
    bool writes = false;
    {
      MutexLock lock(stream.mutex_);
      cancelled = true;
      writes = stream.writer_ == this;
      stream.changed_.SignalAll();
    }
    Wake(stream.wake_);
    if (writes) Wake(stream.wake_writer_);
  }

  LaneStream& stream;
  // Guarded by stream.mutex_.
  uint64_t id = 0;
  bool cancelled = false;
  bool timed_out = false;
  bool done = false;
  bool under_way = false;
  std::string body;
  FrameType type = FrameType::kHello;
  const Payload* payload = nullptr;
  std::vector<uint64_t> got;  // bytes of each place
  bool told = false;          // the daemon was, that it is cancelled
  LaneTime until;             // how long its answer to that is waited for
  std::optional<stream::Credit> credit;
  uint64_t sent = 0;       // bytes of payload
  size_t part = 0;         // of credit->wanted, that comes next
  uint64_t part_sent = 0;  // bytes of it
  bool MaySend() const { return credit && credit->bytes > sent && !cancelled && !told; }
};

LaneStream::LaneStream(std::unique_ptr<stream::StreamSocket> socket, Descriptor wake,
                       Descriptor wake_writer, Nanos busy_poll)
    : socket_(std::move(socket)),
      wake_(std::move(wake)),
      wake_writer_(std::move(wake_writer)),
      busy_(clock_, busy_poll) {}

absl::StatusOr<std::unique_ptr<LaneStream>> LaneStream::Open(
    std::unique_ptr<stream::StreamSocket> socket, const stream::Hello& hello, Nanos busy_poll,
    LaneTime deadline, CancelSource* cancel) {
  Descriptor wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  Descriptor wake_writer(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid() || !wake_writer.valid()) {
    return absl::ResourceExhaustedError("no descriptor for an eventfd");
  }
  std::unique_ptr<LaneStream> made(
      new LaneStream(std::move(socket), std::move(wake), std::move(wake_writer), busy_poll));
  MNEMO_ASSIGN_OR_RETURN(const Reply reply, made->Call(FrameType::kHello, stream::Encode(hello), -1,
                                                       deadline, cancel));
  absl::Status status;
  stream::Welcome welcome;
  if (!stream::Decode(AsBytes(reply.body), status, welcome)) {
    return absl::InternalError("the daemon's WELCOME is malformed");
  }
  MNEMO_RETURN_IF_ERROR(status);
  MutexLock lock(made->mutex_);
  made->max_under_way_ = std::max(welcome.max_requests, 1U);
  return made;
}

LaneStream::~LaneStream() {
  if (lost()) return;
  // Whether it is read or not, the daemon sees the end.
  const std::string frame =
      stream::MakeFrame({.type = FrameType::kClose}, stream::Encode(stream::Close{}));
  const iovec piece{.iov_base = const_cast<char*>(frame.data()), .iov_len = frame.size()};
  socket_->Send(std::span(&piece, 1), -1);
}

void LaneStream::Unregister(uint64_t memory) {
  uint32_t region = 0;
  {
    MutexLock lock(mutex_);
    const auto found = regions_.find(memory);
    if (found == regions_.end() || lost_) return;
    region = found->second;
    regions_.erase(found);
  }
  // A daemon that does not answer has lost the stream, and the region with it.
  const absl::StatusOr<Reply> reply =
      Call(FrameType::kUnregister, stream::Encode(stream::UnregisterRequest{.region = region}), -1,
           std::chrono::steady_clock::now() + std::chrono::seconds(1), nullptr);
  reply.status().IgnoreError();
}

bool LaneStream::lost() const {
  MutexLock lock(mutex_);
  return lost_;
}

bool LaneStream::full() const {
  MutexLock lock(mutex_);
  return under_way_ >= max_under_way_;
}

absl::Status LaneStream::AwaitTurn(Waiter& waiter, LaneTime deadline) {
  MutexLock lock(mutex_);
  while (under_way_ >= max_under_way_ && !lost_) {
    if (waiter.cancelled) return absl::CancelledError("the call was cancelled");
    const LaneTime now = std::chrono::steady_clock::now();
    if (now >= deadline) {
      return absl::DeadlineExceededError("the daemon's stream had too many calls under way");
    }
    changed_.WaitFor(mutex_, deadline - now);
  }
  if (lost_) return absl::UnavailableError(why_);
  ++under_way_;
  waiter.under_way = true;
  return absl::OkStatus();
}

bool LaneStream::IsGivenUp(const Waiter& waiter) const {
  MutexLock lock(mutex_);
  // Who was told has a CANCEL to send.
  return waiter.cancelled && !waiter.told;
}

void LaneStream::AwaitRoom(LaneTime until) {
  pollfd waits[2] = {{.fd = socket_->descriptor(), .events = POLLOUT, .revents = 0},
                     {.fd = wake_writer_.get(), .events = POLLIN, .revents = 0}};
  ::poll(waits, 2, PollMillis(until));
  if ((waits[1].revents & POLLIN) != 0) Calm(wake_writer_);
}

absl::Status LaneStream::SendAll(Waiter& waiter, std::vector<iovec> pieces, int descriptor,
                                 LaneTime deadline, bool& begun) {
  IovecSpan rest = pieces;
  bool given_up = false;
  while (!rest.empty()) {
    ssize_t sent = 0;
    if (socket_->ssl() == nullptr) {
      sent = socket_->Send(rest, descriptor);
    } else {
      // What TLS did not take as a whole is on its way in part.
      begun = true;
      MutexLock lock(io_);
      sent = socket_->Send(rest, descriptor);
    }
    if (sent < 0) return absl::UnavailableError("the stream to the daemon has ended");
    if (sent > 0) {
      begun = true;
      descriptor = -1;
      rest = Advance(rest, static_cast<uint64_t>(sent));
      continue;
    }
    const LaneTime now = std::chrono::steady_clock::now();
    if (!given_up && IsGivenUp(waiter)) {
      given_up = true;
      // What was begun has a little time to be ended, for the sake of the others.
      deadline = begun ? std::min(deadline, now + kGrace) : now;
    }
    if (now >= deadline) {
      if (given_up) return absl::CancelledError("the call was cancelled");
      return absl::DeadlineExceededError("the daemon did not read the request in time");
    }
    AwaitRoom(deadline);
  }
  return absl::OkStatus();
}

absl::Status LaneStream::Write(Waiter& waiter, const std::string& frame, int descriptor,
                               LaneTime deadline, Bytes payload) {
  {
    MutexLock lock(mutex_);
    while (writer_ != nullptr && !lost_) {
      if (waiter.cancelled && !waiter.told) return absl::CancelledError("the call was cancelled");
      const LaneTime now = std::chrono::steady_clock::now();
      if (now >= deadline) {
        return absl::DeadlineExceededError("the daemon did not read what came before in time");
      }
      changed_.WaitFor(mutex_, deadline - now);
    }
    if (lost_) return absl::UnavailableError(why_);
    writer_ = &waiter;
  }
  std::vector<iovec> pieces = {{const_cast<char*>(frame.data()), frame.size()}};
  if (!payload.empty()) {
    pieces.push_back({const_cast<uint8_t*>(payload.data()), payload.size()});
  }
  bool begun = false;
  const absl::Status status = SendAll(waiter, std::move(pieces), descriptor, deadline, begun);
  MutexLock lock(mutex_);
  writer_ = nullptr;
  // A frame that is there in part leaves nothing that could follow it.
  if (!status.ok() && (begun || absl::IsUnavailable(status))) lost_ = true;
  changed_.SignalAll();
  return status;
}

absl::Status LaneStream::SendPayload(Waiter& waiter, LaneTime deadline) {
  for (;;) {
    stream::Data data;
    uint64_t size = 0;
    {
      MutexLock lock(mutex_);
      if (!waiter.MaySend() || std::chrono::steady_clock::now() >= deadline) {
        return absl::OkStatus();
      }
      const std::vector<uint32_t>& wanted = waiter.credit->wanted;
      if (waiter.part == wanted.size()) {
        return absl::InternalError("the daemon credits more than it wants");
      }
      data = {.index = wanted[waiter.part], .offset = waiter.part_sent};
      const uint64_t part = waiter.payload->from[data.index].size();
      size = std::min<uint64_t>(
          {stream::kMaxDataBytes, part - data.offset, waiter.credit->bytes - waiter.sent});
      waiter.sent += size;
      waiter.part_sent += size;
      if (waiter.part_sent == part) {
        ++waiter.part;
        waiter.part_sent = 0;
      }
    }
    const absl::Status status =
        Write(waiter,
              stream::MakeDataFrame({.type = FrameType::kData, .id = waiter.id},
                                    stream::Encode(data), static_cast<uint32_t>(size)),
              -1, deadline, waiter.payload->from[data.index].subspan(data.offset, size));
    // The daemon waits for it: it is told, instead, that nothing more comes.
    if ((absl::IsCancelled(status) || absl::IsDeadlineExceeded(status)) && !lost()) {
      return absl::OkStatus();
    }
    MNEMO_RETURN_IF_ERROR(status);
  }
}

Received LaneStream::Receive(MutableByteView into) {
  std::vector<Descriptor> dropped;  // no answer that is asked for here has one
  if (socket_->ssl() == nullptr) return socket_->Receive(into, dropped);
  MutexLock lock(io_);
  return socket_->Receive(into, dropped);
}

bool LaneStream::Sleep(LaneTime until) {
  pollfd waits[2] = {{.fd = socket_->descriptor(), .events = POLLIN, .revents = 0},
                     {.fd = wake_.get(), .events = POLLIN, .revents = 0}};
  ::poll(waits, 2, PollMillis(until));
  return (waits[1].revents & POLLIN) == 0 || Calm(wake_);
}

bool LaneStream::ReadSome(LaneTime until) {
  bool good = true;
  const auto look = [&] { return TakeSome(good); };
  if (!busy_.For(look)) {
    if (!Sleep(until)) return false;
    look();
    busy_.Woke();
  }
  return good;
}

bool LaneStream::TakeSome(bool& good) {
  bool came = false;
  do {
    Received received;
    if (reader_.payload_left() == 0) {
      received = Receive(reader_.Room());
      if (received.state == Received::State::kBytes) reader_.Filled(received.bytes);
    } else {
      const ByteView here = reader_.payload();
      if (here.empty()) {
        received = Receive(target_.first(std::min(target_.size(), kTakeBytes)));
      } else {
        CopyInto(here, target_.data());
        received = {.state = Received::State::kBytes, .bytes = here.size()};
      }
      reader_.TookPayload(received.bytes);
      if (digest_ != nullptr) digest_->Update(target_.first(received.bytes));
      target_ = target_.subspan(received.bytes);
    }
    good = received.state != Received::State::kEnd;
    if (received.state != Received::State::kBytes) return came || !good;
    came = true;
    while (const auto frame = reader_.Next()) {
      good = Deliver(*frame);
      if (!good) return true;
    }
    // Under TLS, what is held back here is told of by nobody.
  } while (reader_.payload_left() > 0 || socket_->has_more());
  good = reader_.reason() == stream::CloseReason::kNone;
  return true;
}

bool LaneStream::Deliver(const stream::Frame& frame) {
  MutexLock lock(mutex_);
  if (frame.header.type == FrameType::kClose) {
    stream::Close close;
    if (stream::Decode(frame.body, close)) {
      why_ = "the daemon ended the stream: " + std::string(close.message);
    }
    lost_ = true;
    return true;
  }
  const auto found = waiters_.find(frame.header.id);
  if (found != waiters_.end()) return DeliverLocked(frame, *found->second);
  return reader_.payload_left() == 0;
}

bool LaneStream::DeliverLocked(const stream::Frame& frame, Waiter& waiter) {
  // The call may have returned: its memory is nobody's to write to.
  if (waiter.done) return false;
  if (frame.header.type == FrameType::kCredit) {
    stream::Credit credit;
    if (waiter.type != FrameType::kPut || !stream::Decode(frame.body, credit)) return false;
    if (!waiter.credit) {
      for (const uint32_t index : credit.wanted) {
        if (index >= waiter.payload->from.size()) return false;
      }
      waiter.credit = std::move(credit);
    } else {
      waiter.credit->bytes = std::max(waiter.credit->bytes, credit.bytes);
    }
    return true;
  }
  if (frame.header.type == FrameType::kData) {
    stream::Data data;
    if (!stream::Decode(frame.body, data) || data.index >= waiter.got.size()) return false;
    const MutableBytes into = waiter.payload->into[data.index];
    uint64_t& got = waiter.got[data.index];
    if (data.offset != got || reader_.payload_left() > into.size() - got) return false;
    target_ = into.subspan(got, reader_.payload_left());
    got += reader_.payload_left();
    auto* const digests = waiter.payload->digests;
    digest_ = digests != nullptr ? &(*digests)[data.index] : nullptr;
    return true;
  }
  if (waiter.type != frame.header.type) return true;
  waiter.body = std::string(AsText(frame.body));
  waiter.done = true;
  return true;
}

absl::Status LaneStream::Await(Waiter& waiter, LaneTime deadline) {
  for (;;) {
    bool tell = false;
    LaneTime until = deadline;
    {
      MutexLock lock(mutex_);
      if (waiter.done) return absl::OkStatus();
      const LaneTime now = std::chrono::steady_clock::now();
      if (waiter.told) until = waiter.until;
      if (waiter.told && now >= until) {
        lost_ = true;
        why_ = "the daemon did not answer";
        changed_.SignalAll();
        if (waiter.cancelled) return absl::CancelledError("the call was cancelled");
        return absl::DeadlineExceededError("the daemon did not answer in time");
      }
      if (lost_) return absl::UnavailableError(why_);
      tell = !waiter.told && (waiter.cancelled || now >= deadline);
      if (tell) {
        waiter.timed_out = !waiter.cancelled;
        waiter.told = true;
        waiter.until = now + kGrace;
      } else if (waiter.MaySend()) {
        return absl::OkStatus();
      } else if (reading_) {
        changed_.WaitFor(mutex_, until - now);
        continue;
      } else {
        reading_ = true;
      }
    }
    if (tell) {
      // Its failure is seen above.
      Write(waiter, stream::MakeFrame({.type = FrameType::kCancel, .id = waiter.id}, ""), -1,
            waiter.until)
          .IgnoreError();
      continue;
    }
    const bool good = ReadSome(until);
    MutexLock lock(mutex_);
    if (!good) lost_ = true;
    reading_ = false;
    changed_.SignalAll();
  }
}

absl::StatusOr<LaneStream::Reply> LaneStream::Call(FrameType type, const std::string& body,
                                                   int descriptor, LaneTime deadline,
                                                   CancelSource* cancel, const Payload& payload) {
  if (body.size() > stream::MaxBodyBytes(type, false)) {
    return absl::InvalidArgumentError("the request is longer than a frame of a stream");
  }
  Waiter waiter(*this);
  waiter.type = type;
  waiter.payload = &payload;
  waiter.got.resize(payload.into.size());
  {
    MutexLock lock(mutex_);
    if (lost_) return absl::UnavailableError(why_);
    waiter.id = next_id_++;
    waiters_[waiter.id] = &waiter;
  }
  if (cancel != nullptr && cancel->impl().Add(waiter)) waiter.Cancel();
  absl::Status status = AwaitTurn(waiter, deadline);
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  const auto timeout = static_cast<uint32_t>(std::clamp<int64_t>(left.count(), 1, UINT32_MAX));
  if (status.ok()) {
    status = Write(waiter,
                   stream::MakeFrame({.type = type, .timeout_ms = timeout, .id = waiter.id}, body),
                   descriptor, deadline);
  }
  const bool asked = status.ok();
  while (status.ok()) {
    status = Await(waiter, deadline);
    if (!status.ok() || IsDone(waiter)) break;
    status = SendPayload(waiter, deadline);
  }
  // It has ended without an answer: who reads may be in the middle of its memory.
  if (asked && !status.ok() && !payload.into.empty()) AwaitNoReader();
  if (cancel != nullptr) cancel->impl().Remove(waiter);
  MutexLock lock(mutex_);
  waiters_.erase(waiter.id);
  if (waiter.under_way) {
    if (under_way_ >= max_under_way_) changed_.SignalAll();
    --under_way_;
  }
  MNEMO_RETURN_IF_ERROR(status);
  if (payload.came != nullptr) *payload.came = std::move(waiter.got);
  return Reply{.body = std::move(waiter.body), .timed_out = waiter.timed_out};
}

bool LaneStream::IsDone(const Waiter& waiter) const {
  MutexLock lock(mutex_);
  return waiter.done;
}

void LaneStream::AwaitNoReader() {
  Wake(wake_);
  MutexLock lock(mutex_);
  lost_ = true;  // so that nobody begins to read
  while (reading_) changed_.Wait(mutex_);
}

absl::StatusOr<uint32_t> LaneStream::RegionOf(uint64_t memory, int descriptor, uint64_t bytes,
                                              LaneTime deadline, CancelSource* cancel) {
  {
    const WakeOnCancel wake(cancel, mutex_, changed_);
    MutexLock lock(mutex_);
    for (;;) {
      const auto found = regions_.find(memory);
      if (found != regions_.end()) return found->second;
      if (!registering_) break;
      if (wake.cancelled()) return absl::CancelledError("the call was cancelled");
      const LaneTime now = std::chrono::steady_clock::now();
      if (now >= deadline) {
        return absl::DeadlineExceededError("another call did not register its memory in time");
      }
      changed_.WaitFor(mutex_, deadline - now);
    }
    registering_ = true;
  }
  const absl::StatusOr<Reply> reply =
      Call(FrameType::kRegister, stream::Encode(stream::RegisterRequest{.bytes = bytes}),
           descriptor, deadline, cancel);
  absl::Status status = reply.status();
  stream::RegisterAnswer answer;
  if (status.ok() && !stream::Decode(AsBytes(reply->body), status, answer)) {
    status = absl::InternalError("the daemon's answer is malformed");
  }
  MutexLock lock(mutex_);
  registering_ = false;
  changed_.SignalAll();
  MNEMO_RETURN_IF_ERROR(status);
  regions_[memory] = answer.region;
  return answer.region;
}

}  // namespace mnemo::client
