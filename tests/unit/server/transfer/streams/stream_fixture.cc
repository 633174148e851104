#include "tests/unit/server/transfer/streams/stream_fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

namespace mnemo {

void CountingStreams::OnStreamOpened() {
  MutexLock lock(mutex_);
  ++opened_;
}

void CountingStreams::OnStreamClosed(stream::CloseReason reason) {
  MutexLock lock(mutex_);
  ++closed_[reason];
  changed_.SignalAll();
}

uint64_t CountingStreams::opened() const {
  MutexLock lock(mutex_);
  return opened_;
}

uint64_t CountingStreams::closed(stream::CloseReason reason) const {
  MutexLock lock(mutex_);
  const auto found = closed_.find(reason);
  return found == closed_.end() ? 0 : found->second;
}

void CountingStreams::AwaitClosed(stream::CloseReason reason, uint64_t count) {
  MutexLock lock(mutex_);
  while (closed_[reason] < count) changed_.Wait(mutex_);
}

SharedMemory::SharedMemory(size_t size)
    : size_(size), fd_(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
  MNEMO_CHECK(::ftruncate(fd_.get(), static_cast<off_t>(size)) == 0);
  MNEMO_CHECK(::fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
  void* const mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  MNEMO_CHECK(mapped != MAP_FAILED);
  data_ = static_cast<char*>(mapped);
  // A hole is no memory that anybody could write to.
  std::memset(data_, 0, size);
}

SharedMemory::~SharedMemory() { ::munmap(data_, size_); }

StreamPeer::StreamPeer(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  MNEMO_CHECK(path.size() < sizeof(address.sun_path));
  std::copy(path.begin(), path.end(), address.sun_path);
  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    socket_ = stream::StreamSocket::MakePlain(std::move(socket));
  }
}

StreamPeer StreamPeer::Tcp(const std::string& address, SSL_CTX* context) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  MNEMO_CHECK(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0);
  StreamPeer peer;
  if (context == nullptr) {
    peer.socket_ = stream::StreamSocket::MakePlain(std::move(socket));
    return peer;
  }
  stream::StreamSocket::SslConnection ssl(SSL_new(context));
  SSL_set_connect_state(ssl.get());
  peer.socket_ = *stream::StreamSocket::MakeTls(std::move(socket), std::move(ssl));
  return peer;
}

bool StreamPeer::Write(std::string_view bytes, int descriptor) {
  while (!bytes.empty()) {
    // The first byte takes a descriptor along; the rest follows as it may.
    const std::string_view next = descriptor >= 0 ? bytes.substr(0, 1) : bytes;
    const iovec piece{.iov_base = const_cast<char*>(next.data()), .iov_len = next.size()};
    const ssize_t sent = socket_->Send(std::span(&piece, 1), descriptor);
    if (sent < 0) return false;
    if (sent > 0) {
      descriptor = -1;
      bytes.remove_prefix(static_cast<size_t>(sent));
      continue;
    }
    // Under TLS, what it waits for may be the peer's part of the handshake.
    const bool tls = socket_->ssl() != nullptr;
    pollfd waits{.fd = socket(), .events = static_cast<short>(tls ? POLLIN | POLLOUT : POLLOUT)};
    ::poll(&waits, 1, -1);
  }
  return true;
}

uint64_t StreamPeer::Send(stream::FrameType type, const std::string& body, int descriptor,
                          uint32_t timeout_ms) {
  const uint64_t id = next_id_++;
  Write(stream::MakeFrame({.type = type, .timeout_ms = timeout_ms, .id = id}, body), descriptor);
  return id;
}

bool StreamPeer::ReadMore() {
  for (;;) {
    const Received received = socket_->Receive(reader_.Room(), came_);
    if (received.state == Received::State::kEnd) return false;
    if (received.state == Received::State::kBytes) {
      reader_.Filled(received.bytes);
      return true;
    }
    pollfd waits{.fd = socket(), .events = POLLIN};
    ::poll(&waits, 1, -1);
  }
}

std::optional<StreamPeer::Answer> StreamPeer::Read() {
  for (;;) {
    if (const auto frame = reader_.Next()) {
      Answer answer{.header = frame->header, .body = std::string(AsText(frame->body))};
      if (!came_.empty()) {
        answer.descriptor = std::move(came_.front());
        came_.erase(came_.begin());
      }
      while (reader_.payload_left() > 0) {
        const ByteView here = reader_.payload();
        answer.payload.append(AsText(here));
        reader_.TookPayload(here.size());
        if (reader_.payload_left() > 0 && !ReadMore()) return std::nullopt;
      }
      return answer;
    }
    EXPECT_EQ(reader_.reason(), stream::CloseReason::kNone);
    if (!ReadMore()) return std::nullopt;
  }
}

stream::CloseReason StreamPeer::ReadToEnd() {
  stream::CloseReason reason = stream::CloseReason::kLost;
  while (const auto answer = Read()) {
    stream::Close close;
    if (answer->header.type == stream::FrameType::kClose &&
        stream::Decode(AsBytes(answer->body), close)) {
      reason = close.reason;
    }
  }
  return reason;
}

absl::StatusOr<stream::Welcome> StreamPeer::Hello(const stream::Hello& hello) {
  stream::Welcome welcome;
  if (absl::Status status = Call(stream::FrameType::kHello, stream::Encode(hello), welcome);
      !status.ok()) {
    return status;
  }
  return welcome;
}

absl::StatusOr<uint32_t> StreamPeer::Register(const SharedMemory& memory) {
  stream::RegisterAnswer answer;
  const absl::Status status =
      Call(stream::FrameType::kRegister,
           stream::Encode(stream::RegisterRequest{.bytes = memory.size()}), answer, memory.fd());
  if (!status.ok()) return status;
  return answer.region;
}

StreamTest::StreamTest(const IdentityOptions& identity, const GateOptions& gate,
                       const StreamServerOptions& streams) {
  auto opened = BlockStore::Open(SmallStore(dir_ / "data"), files_, clock_,
                                 [this](const PartEvent& event) { events_.Publish(event); });
  MNEMO_CHECK(opened.ok());
  store_ = *std::move(opened);
  auto book = IdentityBook::Load(identity, store_->state(), clock_);
  MNEMO_CHECK(book.ok());
  identity_ = *std::move(book);
  auto registry = SpaceRegistry::Load(store_->state(), clock_);
  MNEMO_CHECK(registry.ok());
  registry_ = *std::move(registry);
  spaces_ = std::make_unique<SpaceEngine>(*registry_, *store_, events_);
  blocks_ = std::make_unique<BlockEngine>(*spaces_, *store_, events_, clock_, engine_observer_);
  gate_ = std::make_unique<Gate>(gate, *identity_, clock_, rpc_observer_);
  StreamServerOptions options = streams;
  options.unix_socket = path();
  auto server = StreamServer::Start(options, {.gate = *gate_,
                                              .blocks = *blocks_,
                                              .identity = *identity_,
                                              .tickets = tickets_,
                                              .regions = regions_,
                                              .observer = streams_});
  MNEMO_CHECK(server.ok());
  server_ = *std::move(server);
}

StreamTest::~StreamTest() {
  server_->Shutdown(Nanos(0));
  EXPECT_EQ(gate_->bytes().used(), 0u) << "bytes of ended requests are still claimed";
  uint64_t regions = 0;
  for (const RegionFormFigures& form : regions_.figures()) regions += form.regions;
  EXPECT_EQ(regions, 0u) << "memory of streams that have ended is still registered";
  gate_->Shutdown();
}

StreamPeer StreamTest::Greeted() {
  StreamPeer peer = NewPeer();
  EXPECT_OK(peer.Hello().status());
  return peer;
}

void StreamTest::OpenSpace(const std::string& name, uint64_t tenant) {
  SpaceSpec spec{.name = name, .tokens_per_block = 16};
  spec.groups = {{.name = "bytes", .kind = GroupKind::kOpaque, .layers = 1}};
  CallContext call;
  call.identity.tenant = tenant;
  EXPECT_OK(spaces_->Open(call, spec, false).status());
}

void StreamTest::AwaitNoConnections() {
  while (server_->connections() > 0) std::this_thread::yield();
}

void StreamTest::HoldThreads() {
  const MethodRule& rule = RuleOf("mnemo.v1.BlockService/Touch");
  CallContext call;
  ASSERT_OK(gate_->AdmitStream(rule, Identity{}, MonoTime::max(), call));
  for (size_t i = 0; i < GateOptions{}.default_threads; ++i) {
    ASSERT_OK(gate_->Submit(call, [this] {
      MutexLock lock(hold_);
      while (!released_) hold_changed_.Wait(hold_);
    }));
  }
}

void StreamTest::ReleaseThreads() {
  MutexLock lock(hold_);
  released_ = true;
  hold_changed_.SignalAll();
}

stream::PutRequest StreamTest::PutOf(uint32_t region, uint64_t offset, std::string_view key,
                                     uint64_t size) {
  stream::PutRequest put{.scope = {.space_name = "opaque"}};
  put.parts = {{.key = key, .size = size}};
  put.places = {{.region = region, .first = 0, .count = 1}};
  put.slices = {{.offset = offset, .length = size}};
  return put;
}

stream::GetRequest StreamTest::GetOf(uint32_t region, uint64_t offset, std::string_view key,
                                     uint64_t room) {
  stream::GetRequest get{.scope = {.space_name = "opaque"}};
  get.keys.keys = {key};
  get.places = {{.region = region, .first = 0, .count = 1}};
  get.slices = {{.offset = offset, .length = room}};
  return get;
}

}  // namespace mnemo
