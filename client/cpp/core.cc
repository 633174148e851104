#include "client/cpp/core.h"

#include <grpc/grpc.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <future>

#include "client/cpp/unary.h"
#include "storage/base/status_macros.h"

namespace mnemo::client {
namespace {

constexpr int kMiB = 1 << 20;
// Of an answer. The largest is a calibration, of 9 MiB.
constexpr int kMostMessage = 16 * kMiB;

// Measured settings for messages of 1 MiB; docs/decisions says what each gives.
grpc::ChannelArguments ArgumentsFor(const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetUserAgentPrefix(options.user_agent);
  arguments.SetMaxReceiveMessageSize(kMostMessage);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, (16 << 20) - 1);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 * kMiB);
  // As the server: docs/decisions/0155.
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, kMiB);
  arguments.SetInt(GRPC_ARG_TCP_READ_CHUNK_SIZE, kMiB);
  arguments.SetInt(GRPC_ARG_TCP_MIN_READ_CHUNK_SIZE, kMiB);
  arguments.SetInt(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, 4 * kMiB);
  // Retries are ours: the channel's would keep a second copy of what is sent.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5000);
  // Otherwise clients of one process would share a connection, and a
  // client's connections would be one.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (options.tls && !options.tls->server_name.empty()) {
    arguments.SetSslTargetNameOverride(options.tls->server_name);
  }
  return arguments;
}

std::shared_ptr<grpc::ChannelCredentials> CredentialsFor(const ClientOptions& options) {
  if (!options.tls) return grpc::InsecureChannelCredentials();
  return grpc::SslCredentials({.pem_root_certs = options.tls->ca,
                               .pem_private_key = options.tls->key,
                               .pem_cert_chain = options.tls->certificate});
}

// gRPC 1.51 is left running once a client was made: shutting it down with the last
// channel waits up to 10 s where a stream had written, for a poller that nobody
// wakes (docs/decisions/0060).
void KeepGrpc() {
  static const bool kept = (grpc_init(), true);
  (void)kept;
}

absl::StatusOr<LaneAddress> AskForStream(Core& core, Plane plane, LaneTime deadline,
                                         CancelSource* cancel) {
  v1::OpenStreamRequest request;
  if (plane == Plane::kBulk) request.set_plane(v1::STREAM_PLANE_TCP);
  const auto left = std::chrono::ceil<Millis>(deadline - std::chrono::steady_clock::now());
  MNEMO_ASSIGN_OR_RETURN(
      const v1::OpenStreamResponse answer,
      (CallAndWait<v1::StreamService, v1::OpenStreamRequest, v1::OpenStreamResponse>(
          core, ControlCall(core, {.timeout = std::max(left, Millis(1)), .cancel = cancel}),
          &v1::StreamService::StubInterface::async_interface::Open, request)));
  return LaneAddress{.path = answer.unix_socket(),
                     .tcp_address = answer.tcp_address(),
                     .tls = answer.tls(),
                     .ticket = answer.ticket()};
}

CalibrationFailures FetchAndWait(Core& core, const SpaceRef& space, const std::set<uint32_t>& ids,
                                 LaneTime deadline, CancelSource* cancel) {
  const auto left = std::chrono::ceil<Millis>(deadline - std::chrono::steady_clock::now());
  const CallOptions options{.timeout = std::max(left, Millis(1)), .cancel = cancel};
  std::promise<CalibrationFailures> promise;
  std::future<CalibrationFailures> future = promise.get_future();
  FetchCalibrations(
      core, ControlCall(core, options), space, ids,
      [&promise](CalibrationFailures failures) { promise.set_value(std::move(failures)); });
  return future.get();
}

}  // namespace

Connection::Connection(std::shared_ptr<grpc::Channel> to)
    : channel(std::move(to)),
      spaces(v1::SpaceService::NewStub(channel)),
      blocks(v1::BlockService::NewStub(channel)),
      contexts(v1::ContextService::NewStub(channel)),
      admin(v1::AdminService::NewStub(channel)),
      auth(v1::AuthService::NewStub(channel)),
      streams(v1::StreamService::NewStub(channel)) {}

Core::Core(const ClientOptions& options)
    : options_(options),
      budget_(options.retry),
      lane_(
          options,
          [this](Plane plane, LaneTime deadline, CancelSource* cancel) {
            return AskForStream(*this, plane, deadline, cancel);
          },
          calibrations_,
          [this](const SpaceRef& space, const std::set<uint32_t>& ids, LaneTime deadline,
                 CancelSource* cancel) {
            return FetchAndWait(*this, space, ids, deadline, cancel);
          }) {
  KeepGrpc();
  const grpc::ChannelArguments arguments = ArgumentsFor(options);
  const auto credentials = CredentialsFor(options);
  for (int i = 0; i < options.connections; ++i) {
    connections_.push_back(std::make_unique<Connection>(
        grpc::CreateCustomChannel(options.target, credentials, arguments)));
  }
}

Core::~Core() {
  all_.Cancel();
  MutexLock lock(mutex_);
  while (outstanding_ > 0) ended_.Wait(mutex_);
}

void Core::ShowToken(grpc::ClientContext& context) const {
  if (!options_.token.empty()) context.AddMetadata("authorization", "Bearer " + options_.token);
}

Connection& Core::NextConnection() {
  return *connections_[turn_.fetch_add(1, std::memory_order_relaxed) % connections_.size()];
}

double Core::Random() {
  MutexLock lock(mutex_);
  return std::uniform_real_distribution<double>(0, 1)(random_);
}

void Core::Begin(Cancellable& call) {
  {
    MutexLock lock(mutex_);
    ++outstanding_;
  }
  if (all_.Add(call)) call.Cancel();
}

void Core::Forget(Cancellable& call) { all_.Remove(call); }

void Core::End() {
  MutexLock lock(mutex_);
  // Signalled under the lock: behind it, the destructor may be through.
  if (--outstanding_ == 0) ended_.SignalAll();
}

}  // namespace mnemo::client
