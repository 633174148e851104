#include "client/cpp/lane_stream.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "storage/base/local_socket.h"
#include "storage/base/status_macros.h"

namespace mnemo::client {
namespace {

using stream::FrameType;

// How long a daemon may take to answer what was cancelled.
constexpr std::chrono::seconds kGrace(2);
constexpr int64_t kLongestWaitMs = 60'000;

int PollMillis(LaneTime until) {
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, kLongestWaitMs));
}

}  // namespace

struct LaneStream::Waiter final : Cancellable {
  explicit Waiter(LaneStream& of) : stream(of) {}
  void Cancel() override {
    {
      MutexLock lock(stream.mutex_);
      cancelled = true;
      stream.changed_.SignalAll();
    }
    stream.Wake();
  }

  LaneStream& stream;
  // Guarded by stream.mutex_.
  uint64_t id = 0;
  bool cancelled = false;
  bool timed_out = false;
  bool done = false;
  std::string body;
  FrameType type = FrameType::kHello;
};

LaneStream::LaneStream(Descriptor socket, Descriptor wake, Nanos busy_poll)
    : socket_(std::move(socket)), wake_(std::move(wake)), busy_(clock_, busy_poll) {}

absl::StatusOr<std::unique_ptr<LaneStream>> LaneStream::Connect(const std::string& path,
                                                                const stream::Hello& hello,
                                                                Nanos busy_poll, LaneTime deadline,
                                                                CancelSource* cancel) {
  MNEMO_ASSIGN_OR_RETURN(Descriptor socket, ConnectLocal(path));
  Descriptor wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return absl::ResourceExhaustedError("no descriptor for an eventfd");
  std::unique_ptr<LaneStream> made(new LaneStream(std::move(socket), std::move(wake), busy_poll));
  MNEMO_ASSIGN_OR_RETURN(const Reply reply, made->Call(FrameType::kHello, stream::Encode(hello), -1,
                                                       deadline, cancel));
  absl::Status status;
  stream::Welcome welcome;
  if (!stream::Decode(AsBytes(reply.body), status, welcome)) {
    return absl::InternalError("the daemon's WELCOME is malformed");
  }
  MNEMO_RETURN_IF_ERROR(status);
  return made;
}

LaneStream::~LaneStream() {
  if (lost()) return;
  // Whether it is read or not, the daemon sees the end.
  SendSome(socket_.get(),
           AsBytes(stream::MakeFrame({.type = FrameType::kClose}, stream::Encode(stream::Close{}))),
           -1);
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

void LaneStream::Wake() {
  const uint64_t one = 1;
  // Full means that it is awake already.
  if (::write(wake_.get(), &one, sizeof(one)) < 0) return;
}

absl::Status LaneStream::SendAll(const std::string& frame, int descriptor,
                                 LaneTime deadline) const {
  ByteView rest = AsBytes(frame);
  while (!rest.empty()) {
    const ssize_t sent = SendSome(socket_.get(), rest, descriptor);
    if (sent < 0) return absl::UnavailableError("the stream to the daemon has ended");
    if (sent > 0) {
      descriptor = -1;
      rest = rest.subspan(static_cast<size_t>(sent));
      continue;
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return absl::DeadlineExceededError("the daemon did not read the request in time");
    }
    pollfd waits{.fd = socket_.get(), .events = POLLOUT, .revents = 0};
    ::poll(&waits, 1, PollMillis(deadline));
  }
  return absl::OkStatus();
}

absl::Status LaneStream::Write(const std::string& frame, int descriptor, LaneTime deadline) {
  {
    MutexLock lock(mutex_);
    while (writing_) changed_.Wait(mutex_);
    if (lost_) return absl::UnavailableError(why_);
    writing_ = true;
  }
  const absl::Status status = SendAll(frame, descriptor, deadline);
  MutexLock lock(mutex_);
  writing_ = false;
  // A frame that is there in part leaves nothing that could follow it.
  if (!status.ok()) lost_ = true;
  changed_.SignalAll();
  return status;
}

bool LaneStream::Sleep(LaneTime until) {
  pollfd waits[2] = {{.fd = socket_.get(), .events = POLLIN, .revents = 0},
                     {.fd = wake_.get(), .events = POLLIN, .revents = 0}};
  ::poll(waits, 2, PollMillis(until));
  if ((waits[1].revents & POLLIN) != 0) {
    uint64_t count = 0;
    if (::read(wake_.get(), &count, sizeof(count)) < 0 && errno != EAGAIN) return false;
  }
  return true;
}

bool LaneStream::ReadSome(LaneTime until, std::vector<stream::Frame>& frames) {
  std::vector<Descriptor> dropped;  // no answer that is asked for here has one
  Received received;
  const auto look = [&] {
    received = Receive(socket_.get(), reader_.Room(), dropped);
    return received.state != Received::State::kNothing;
  };
  if (!busy_.For(look)) {
    if (!Sleep(until)) return false;
    look();
    busy_.Woke();
  }
  if (received.state == Received::State::kEnd) return false;
  reader_.Filled(received.bytes);
  while (const auto frame = reader_.Next()) frames.push_back(*frame);
  return reader_.reason() == stream::CloseReason::kNone;
}

absl::Status LaneStream::Await(Waiter& waiter, LaneTime deadline) {
  bool told = false;
  LaneTime until = deadline;
  for (;;) {
    bool tell = false;
    {
      MutexLock lock(mutex_);
      if (waiter.done) return absl::OkStatus();
      const LaneTime now = std::chrono::steady_clock::now();
      if (told && now >= until) {
        lost_ = true;
        why_ = "the daemon did not answer";
        changed_.SignalAll();
        if (waiter.cancelled) return absl::CancelledError("the call was cancelled");
        return absl::DeadlineExceededError("the daemon did not answer in time");
      }
      if (lost_) return absl::UnavailableError(why_);
      tell = !told && (waiter.cancelled || now >= deadline);
      if (tell) {
        waiter.timed_out = !waiter.cancelled;
      } else if (reading_) {
        changed_.WaitFor(mutex_, until - now);
        continue;
      } else {
        reading_ = true;
      }
    }
    if (tell) {
      told = true;
      until = std::chrono::steady_clock::now() + kGrace;
      // Its failure is seen above.
      Write(stream::MakeFrame({.type = FrameType::kCancel, .id = waiter.id}, ""), -1, until)
          .IgnoreError();
      continue;
    }
    std::vector<stream::Frame> frames;
    const bool good = ReadSome(until, frames);
    MutexLock lock(mutex_);
    for (const stream::Frame& frame : frames) {
      if (frame.header.type == FrameType::kClose) {
        stream::Close close;
        if (stream::Decode(frame.body, close)) {
          why_ = "the daemon ended the stream: " + std::string(close.message);
        }
        lost_ = true;
        continue;
      }
      const auto found = waiters_.find(frame.header.id);
      if (found == waiters_.end() || found->second->type != frame.header.type) continue;
      found->second->body = std::string(AsText(frame.body));
      found->second->done = true;
    }
    if (!good) lost_ = true;
    reading_ = false;
    changed_.SignalAll();
  }
}

absl::StatusOr<LaneStream::Reply> LaneStream::Call(FrameType type, const std::string& body,
                                                   int descriptor, LaneTime deadline,
                                                   CancelSource* cancel) {
  if (body.size() > stream::MaxBodyBytes(type, false)) {
    return absl::InvalidArgumentError("the request is longer than a frame of a stream");
  }
  Waiter waiter(*this);
  waiter.type = type;
  {
    MutexLock lock(mutex_);
    if (lost_) return absl::UnavailableError(why_);
    waiter.id = next_id_++;
    waiters_[waiter.id] = &waiter;
  }
  if (cancel != nullptr && cancel->impl().Add(waiter)) waiter.Cancel();
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  const auto timeout = static_cast<uint32_t>(std::clamp<int64_t>(left.count(), 1, UINT32_MAX));
  absl::Status status =
      Write(stream::MakeFrame({.type = type, .timeout_ms = timeout, .id = waiter.id}, body),
            descriptor, deadline);
  if (status.ok()) status = Await(waiter, deadline);
  if (cancel != nullptr) cancel->impl().Remove(waiter);
  MutexLock lock(mutex_);
  waiters_.erase(waiter.id);
  MNEMO_RETURN_IF_ERROR(status);
  return Reply{.body = std::move(waiter.body), .timed_out = waiter.timed_out};
}

absl::StatusOr<uint32_t> LaneStream::RegionOf(uint64_t memory, int descriptor, uint64_t bytes,
                                              LaneTime deadline) {
  {
    MutexLock lock(mutex_);
    for (;;) {
      const auto found = regions_.find(memory);
      if (found != regions_.end()) return found->second;
      if (!registering_) break;
      changed_.Wait(mutex_);
    }
    registering_ = true;
  }
  const absl::StatusOr<Reply> reply =
      Call(FrameType::kRegister, stream::Encode(stream::RegisterRequest{.bytes = bytes}),
           descriptor, deadline, nullptr);
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
