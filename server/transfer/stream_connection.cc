#include "server/transfer/stream_connection.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "server/identity/tls_material.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

using stream::CloseReason;
using stream::FrameType;

// Reads of one turn of the loop, so that one peer does not keep it from the others.
constexpr int kReadsPerTurn = 16;
// Less than this of a frame does not count as progress.
constexpr size_t kProgressBytes = 64 * kKiB;
// Of a frame that comes, without a claim on the byte budget.
constexpr uint64_t kFreeBytes = 64 * kKiB;
constexpr size_t kMaxUnboundDescriptors = 8;

std::string_view MessageOf(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

}  // namespace

StreamConnection::StreamConnection(const StreamRooms& rooms, CopyCrew& copies, EventLoop& loop,
                                   std::unique_ptr<stream::StreamSocket> socket,
                                   StreamOrigin origin, std::function<void(StreamConnection&)> gone)
    : rooms_(rooms),
      copies_(copies),
      loop_(loop),
      socket_(std::move(socket)),
      bulk_(origin.plane == kBulkPlane),
      address_(std::move(origin.address)),
      uid_(origin.peer.uid()),
      pid_(origin.peer.pid()),
      gone_(std::move(gone)),
      peer_(std::move(origin.peer)),
      incoming_(rooms.gate.bytes()),
      outgoing_claim_(rooms.gate.bytes()) {}

StreamConnection::~StreamConnection() = default;

void StreamConnection::Start() {
  rooms_.observer.OnStreamOpened();
  rooms_.gate.watchdog().Add(*this);
  // Until it has said who it is.
  reading_wait_.Begin(rooms_.gate.clock().Mono());
  absl::Status added;
  {
    MutexLock lock(mutex_);
    interest_ = EPOLLIN;
    added = loop_.Add(socket_->descriptor(), interest_, *this);
    registered_ = added.ok();
  }
  if (!added.ok()) Close(CloseReason::kOverload, MessageOf(added));
}

void StreamConnection::OnEvents(uint32_t events) {
  const bool gone = (events & (EPOLLHUP | EPOLLERR)) != 0;
  bool mine = false;
  bool paused = false;
  {
    MutexLock lock(mutex_);
    mine = (events & EPOLLOUT) != 0 && std::exchange(blocked_, false);
    paused = paused_;
    if (mine) ChangeInterestLocked();
  }
  if (mine) {
    writing_wait_.End(true);
    WriteAll();
  }
  // What is not read now would be told of again and again.
  if (paused && gone) return Close(CloseReason::kLost, "");
  if (gone || (events & EPOLLIN) != 0 || socket_->reading_wants_room()) ReadSome();
}

void StreamConnection::ReadSome() {
  bool more = true;
  for (int i = 0; i < kReadsPerTurn && more; ++i) more = ReadOnce();
  MutexLock lock(mutex_);
  if (closed_) return;
  if (more && (!reader_.payload().empty() || socket_->has_more())) {
    // It is here already, so no event of the socket tells of it.
    ++working_;
    loop_.Post([this] {
      ReadSome();
      Leave();
    });
    return;
  }
  reader_.Rest();
  ChangeInterestLocked();
}

bool StreamConnection::ReadOnce() {
  {
    MutexLock lock(mutex_);
    if (closed_ || paused_) return false;
  }
  if (reader_.payload_left() > 0) return ReadPayload();
  const MutableByteView room = reader_.Room();
  std::vector<Descriptor> came;
  const Received received = socket_->Receive(room, came);
  if (received.state == Received::State::kNothing) return false;
  if (received.state == Received::State::kEnd) {
    Lost();
    return false;
  }
  for (Descriptor& descriptor : came) descriptors_.push_back(std::move(descriptor));
  if (received.descriptors_lost || descriptors_.size() > kMaxUnboundDescriptors) {
    Close(CloseReason::kOverload, "more descriptors than frames for them");
    return false;
  }
  read_own_ = pid_ != 0 && received.sender == pid_;
  frame_own_ = read_own_ && (reader_.partial() == 0 || frame_own_);
  reader_.Filled(received.bytes);
  received_ += received.bytes;
  HandleFrames();
  return received.bytes == room.size() || reader_.payload_left() > 0 || socket_->has_more();
}

void StreamConnection::Lost() {
  const std::string error = socket_->handshake_error();
  if (error.empty()) return Close(CloseReason::kLost, "");
  rooms_.gate.observer().OnAuthenticated(AuthOutcome::kUnauthenticated);
  rooms_.gate.observer().OnRefused({.method = RuleOf("mnemo.v1.StreamService/Open").method,
                                    .peer = address_,
                                    .caller = nullptr,
                                    .status = absl::UnauthenticatedError("TLS: " + error)});
  Close(CloseReason::kTls, error);
}

void StreamConnection::HandleFrames() {
  while (const auto frame = reader_.Next()) {
    // While payload is waited for, only bytes count.
    if (receiver_ == nullptr) reading_wait_.End(true);
    incoming_.Release();
    Handle(*frame);
    frame_own_ = read_own_;
    MutexLock lock(mutex_);
    if (closed_) return;
  }
  if (reader_.reason() != CloseReason::kNone) {
    return Close(reader_.reason(), "a frame that cannot be read");
  }
  if (reader_.partial() == 0 && !descriptors_.empty()) {
    return Close(CloseReason::kOrder, "a descriptor that belongs to no frame");
  }
  if (!greeted_ && reader_.announced() > stream::MaxBodyBytes(FrameType::kHello, false)) {
    return Close(CloseReason::kOrder, "HELLO comes first");
  }
  if (reader_.announced() > kFreeBytes && incoming_.held() == 0 &&
      !incoming_.TryAdd(reader_.announced())) {
    return Close(CloseReason::kOverload, "no memory for so long a frame now");
  }
  UpdateWait();
}

// A peer that has begun something is waited for, and not for ever.
void StreamConnection::UpdateWait() {
  WaitsUntil(receiver_ != nullptr && receiver_->status().ok() ? receiver_->call().deadline
                                                              : MonoTime::max());
  const MonoTime now = rooms_.gate.clock().Mono();
  const bool payload = reader_.payload_left() > 0;
  // Payload for a request that is busy with what came before is waited for by nobody.
  const bool waits = receiver_ != nullptr || (reader_.partial() > 0 && !payload) || !greeted_;
  if (!waits) {
    if (reading_wait_.on()) reading_wait_.End(true);
    return;
  }
  if (!reading_wait_.on()) {
    reading_wait_.Begin(now);
    marked_ = received_;
  } else if (received_ >= marked_ + kProgressBytes) {
    reading_wait_.End(true);
    reading_wait_.Begin(now);
    marked_ = received_;
  }
}

void StreamConnection::Handle(const stream::Frame& frame) {
  switch (frame.header.type) {
    case FrameType::kClose:
      return Close(CloseReason::kDone, "");
    case FrameType::kHello:
      if (greeted_) return Close(CloseReason::kOrder, "HELLO came twice");
      return Greet(frame);
    default:
      break;
  }
  if (!greeted_) return Close(CloseReason::kOrder, "HELLO comes first");
  if (frame.header.type == FrameType::kCancel) return Cancel(frame.header.id);
  if (frame.header.type == FrameType::kData) return HandleData(frame);
  StartRequest(frame);
}

absl::StatusOr<Identity> StreamConnection::WhoIs(const stream::Hello& hello) {
  std::vector<std::string> names;
  if (socket_->ssl() != nullptr) names = PeerCertificateNames(socket_->ssl());
  if (hello.ticket.empty()) {
    return bulk_ ? rooms_.identity.Resolve({.certificate_names = names})
                 : rooms_.identity.ResolveUid(uid_);
  }
  MNEMO_ASSIGN_OR_RETURN(Identity identity,
                         rooms_.tickets.Redeem(hello.ticket, bulk_ ? kBulkPlane : kFastPlane));
  MNEMO_RETURN_IF_ERROR(rooms_.identity.CheckStream(identity, names));
  return identity;
}

void StreamConnection::Greet(const stream::Frame& frame) {
  stream::Hello hello;
  if (!stream::Decode(frame.body, hello)) {
    return Close(CloseReason::kBody, "HELLO is malformed");
  }
  const stream::FrameHead head{.type = FrameType::kHello, .answer = true, .id = frame.header.id};
  const MethodRule& rule = RuleOf("mnemo.v1.StreamService/Open");
  const MonoTime began = rooms_.gate.clock().Mono();
  CallContext call;
  absl::StatusOr<Identity> identity = WhoIs(hello);
  absl::Status status = identity.status();
  if (status.ok()) {
    status = rooms_.gate.AdmitStream(rule, *identity, MonoTime::max(), call);
  } else {
    rooms_.gate.observer().OnAuthenticated(AuthOutcome::kUnauthenticated);
  }
  std::string welcome;
  if (status.ok()) {
    identity_ = *std::move(identity);
    regions_ = std::make_unique<RegionTable>(rooms_.regions, identity_.tenant, std::move(peer_));
    absl::StatusOr<std::string> answer = WelcomeFor(hello);
    status = answer.status();
    if (status.ok()) welcome = *std::move(answer);
  }
  rooms_.gate.observer().OnFinished(rule, status.code(), rooms_.gate.clock().Mono() - began);
  if (status.ok()) {
    greeted_ = true;
    return Send(stream::MakeFrame(head, welcome));
  }
  rooms_.gate.observer().OnRefused(
      {.method = rule.method,
       .peer = address_,
       .caller = absl::IsPermissionDenied(status) ? &call.identity : nullptr,
       .status = status});
  Send(stream::MakeFrame(head, stream::EncodeError(status)));
  Close(absl::IsUnavailable(status) ? CloseReason::kShutdown : CloseReason::kTicket,
        MessageOf(status));
}

absl::StatusOr<std::string> StreamConnection::WelcomeFor(const stream::Hello& hello) {
  const RegionLimits& limits = rooms_.regions.limits();
  stream::Welcome welcome{.max_requests = kMaxRequests};
  if (!bulk_) {
    welcome.max_regions = static_cast<uint32_t>(limits.tenant_regions);
    welcome.max_region_bytes = limits.tenant_bytes;
  }
  Authenticator::SessionToken token;
  if (hello.want_token) {
    MNEMO_ASSIGN_OR_RETURN(token, rooms_.identity.IssueSession(identity_));
    welcome.token = token.token;
    welcome.token_lifetime_ms = static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(token.lifetime).count());
  }
  return stream::Encode(welcome);
}

void StreamConnection::Cancel(uint64_t id) {
  StreamRequest* waiting = nullptr;
  {
    MutexLock lock(mutex_);
    const auto found = requests_.find(id);
    if (found == requests_.end()) return;  // its answer is on the way
    found->second->call().cancelled = true;
    if (found->second->Withdraw()) waiting = found->second.get();
    if (receiver_ == found->second.get() || std::erase(waiting_puts_, found->second.get()) > 0) {
      waiting = found->second.get();
    }
  }
  if (waiting == nullptr) return;
  if (receiver_ == waiting) receiver_ = nullptr;
  waiting->Fail(absl::CancelledError("the request was cancelled"));
  Finish(*waiting);
}

void StreamConnection::StartRequest(const stream::Frame& frame) {
  std::unique_ptr<StreamRequest> request =
      StreamRequest::Create({.gate = rooms_.gate,
                             .blocks = rooms_.blocks,
                             .regions = *regions_,
                             .copies = copies_,
                             .payload = bulk_ ? this : nullptr},
                            frame.header, frame.body);
  if (request == nullptr) return Close(CloseReason::kBody, "a body that is malformed");
  if (request->WantsDescriptor()) {
    if (descriptors_.empty()) return Close(CloseReason::kOrder, "a descriptor must come along");
    request->Bring(std::move(descriptors_.front()));
    descriptors_.pop_front();
  }
  if (!frame_own_) request->OnForeignSender();
  StreamRequest& started = *request;
  started.OnResume([this, &started] { Submit(started); });
  CloseReason wrong = CloseReason::kNone;
  {
    MutexLock lock(mutex_);
    if (requests_.size() >= kMaxRequests) {
      wrong = CloseReason::kOverload;
    } else if (!requests_.emplace(frame.header.id, std::move(request)).second) {
      wrong = CloseReason::kOrder;
    } else {
      ++working_;
    }
  }
  if (wrong == CloseReason::kOverload) return Close(wrong, "too many requests are under way");
  if (wrong == CloseReason::kOrder) return Close(wrong, "the id is that of a request under way");
  Begin(started);
}

absl::Status StreamConnection::Admit(StreamRequest& request) {
  const uint32_t timeout = request.header().timeout_ms;
  const MonoTime deadline =
      timeout == 0 ? MonoTime::max() : request.started() + std::chrono::milliseconds(timeout);
  const absl::Status status =
      rooms_.gate.AdmitStream(request.rule(), identity_, deadline, request.call());
  if (absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status)) {
    rooms_.gate.observer().OnRefused({.method = request.rule().method,
                                      .peer = address_,
                                      .caller = &identity_,
                                      .status = status});
  }
  MNEMO_RETURN_IF_ERROR(status);
  return CheckGoesOn(request.call(), rooms_.gate.clock());
}

void StreamConnection::Begin(StreamRequest& request) {
  StreamRequest::Progress progress = StreamRequest::Progress::kDone;
  if (absl::Status status = Admit(request); !status.ok()) {
    request.Fail(status);
  } else {
    progress = request.Begin();
  }
  if (progress == StreamRequest::Progress::kDone) return Finish(request);
  if (!request.Hold()) {
    request.Fail(absl::UnavailableError("no memory for the request now"));
    return Finish(request);
  }
  if (request.taker() != nullptr) return SubmitPut(request);
  Submit(request);
}

void StreamConnection::Submit(StreamRequest& request) {
  const absl::Status status =
      rooms_.gate.Submit(request.call(), [this, &request] { Execute(request); });
  if (status.ok()) return;
  request.Fail(status);
  // What a PUT was credited is taken off the stream before.
  GoOn(request, request.Stop());
}

void StreamConnection::Execute(StreamRequest& request) {
  StreamRequest::Progress progress = StreamRequest::Progress::kDone;
  if (absl::Status status = CheckGoesOn(request.call(), rooms_.gate.clock()); !status.ok()) {
    request.Fail(status);
    progress = request.Stop();
  } else {
    progress = request.Run();
  }
  GoOn(request, progress);
}

void StreamConnection::GoOn(StreamRequest& request, StreamRequest::Progress progress) {
  if (progress == StreamRequest::Progress::kWaits) return;
  if (progress == StreamRequest::Progress::kReceives) {
    return loop_.Post([this, &request] { BeginReceiving(request); });
  }
  Finish(request);
}

void StreamConnection::Finish(StreamRequest& request) {
  rooms_.gate.observer().OnFinished(request.rule(), request.status().code(),
                                    rooms_.gate.clock().Mono() - request.started());
  std::unique_ptr<StreamRequest> ended;
  {
    // Before the answer, after which the client may use the id again.
    MutexLock lock(mutex_);
    const auto found = requests_.find(request.header().id);
    ended = std::move(found->second);
    requests_.erase(found);
  }
  // One that ended while it waited has left another's turn as it was; its id may be that
  // of a new one by then.
  if (ended->has_turn()) {
    MutexLock lock(mutex_);
    ++working_;
    loop_.Post([this] {
      PutEnded();
      Leave();
    });
  }
  std::string answer = ended->TakeAnswer();
  Descriptor descriptor = ended->TakeDescriptor();
  // What it holds is free before the client can learn of its end.
  ended.reset();
  Send(std::move(answer), std::move(descriptor));
  Leave();
}

void StreamConnection::Leave() {
  bool last = false;
  {
    MutexLock lock(mutex_);
    last = --working_ == 0;
    if (last && draining_ && !closed_) {
      ++working_;
      loop_.Post([this] {
        Close(CloseReason::kShutdown, "the daemon is shutting down");
        Leave();
      });
      return;
    }
    last = last && closed_;
  }
  if (last) gone_(*this);
}

void StreamConnection::CloseSoonLocked(CloseReason reason, std::string message) {
  ++working_;
  loop_.Post([this, reason, message = std::move(message)] {
    Close(reason, message);
    Leave();
  });
}

void StreamConnection::Drain() {
  {
    MutexLock lock(mutex_);
    if (closed_) return;  // gone already, or when the last of its work has ended
    draining_ = true;
    ++working_;
  }
  Leave();
}

bool StreamConnection::OnStalled() {
  MutexLock lock(mutex_);
  if (!closed_) CloseSoonLocked(CloseReason::kStalled, "no progress for too long");
  return false;
}

void StreamConnection::OnOverdue() {
  MutexLock lock(mutex_);
  if (closed_) return;
  ++working_;
  loop_.Post([this] {
    StopOverdue();
    Leave();
  });
}

void StreamConnection::Close(CloseReason reason, std::string_view message) {
  std::vector<StreamRequest*> waiting;
  std::vector<StreamRequest*> unsent;
  bool write = false;
  bool watched = false;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    closed_ = true;
    ++working_;
    TakeWaitingPuts(waiting);
    for (const auto& [id, request] : requests_) {
      request->call().cancelled = true;
      if (request->Withdraw()) waiting.push_back(request.get());
    }
    watched = std::exchange(registered_, false);
    interest_ = 0;
    // A socket that is full takes no farewell either.
    if (blocked_) DropOutgoingLocked(unsent);
    if (reason != CloseReason::kDone && reason != CloseReason::kLost &&
        reason != CloseReason::kTls && !blocked_) {
      outgoing_.push_back({.bytes = stream::MakeFrame({.type = FrameType::kClose},
                                                      stream::Encode(stream::Close{
                                                          .reason = reason, .message = message}))});
    }
    write = blocked_ || !writing_;
    blocked_ = false;
    writing_ = true;
  }
  rooms_.gate.watchdog().Remove(*this);
  // Before the peer can learn of it.
  rooms_.observer.OnStreamClosed(reason);
  if (watched) loop_.Remove(socket_->descriptor());
  if (write) WriteAll();
  PayloadLeft(unsent);
  for (StreamRequest* request : waiting) {
    request->Fail(absl::CancelledError("the stream ended"));
    Finish(*request);
  }
  Leave();
}

}  // namespace mnemo
