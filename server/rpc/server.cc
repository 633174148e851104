#include "server/rpc/server.h"

#include <fmt/format.h>
#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <utility>

#include "server/rpc/admin_service.h"
#include "server/rpc/auth_service.h"
#include "server/rpc/block_service.h"
#include "server/rpc/context_service.h"
#include "server/rpc/space_service.h"
#include "server/rpc/stream_service.h"
#include "server/rpc/tls_credentials.h"
#include "storage/base/mutex.h"

namespace mnemo {
namespace {

// The largest request is a Match of 65,536 keys of 64 bytes, each with a stretch.
constexpr int kReceiveLimit = 9 << 20;
// Settings that raised the throughput of large messages, and bounds on what a
// silent or hostile peer may hold; docs/decisions has the reasons.
void Tune(const RpcServerOptions& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kReceiveLimit);
  builder.SetMaxSendMessageSize(kReceiveLimit);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, (16 << 20) - 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 8 << 20);
  // A window that follows the measured bandwidth shrinks under data that is on its
  // way, which then breaks its call: docs/decisions/0155.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, 1 << 20);
  builder.AddChannelArgument("grpc.experimental.tcp_read_chunk_size", 1 << 20);
  builder.AddChannelArgument("grpc.experimental.tcp_max_read_chunk_size", 4 << 20);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_concurrent_streams);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  // A second daemon on the same port is a mistake to be told, not shared.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  grpc::ResourceQuota quota("mnemo");
  quota.Resize(options.receive_buffer_bytes);
  builder.SetResourceQuota(quota);
}

class RpcServerImpl final : public RpcServer {
 public:
  RpcServerImpl(const RpcServerOptions& options, Gate& gate, const RpcRooms& rooms)
      : gate_(gate),
        space_service_(gate, rooms.spaces),
        block_service_(gate, rooms.blocks),
        context_service_(gate, rooms.contexts),
        admin_service_(gate, rooms.admin, rooms.node),
        auth_service_(gate, rooms.identity),
        stream_service_(gate, rooms.tickets,
                        {.unix_socket = options.stream_socket,
                         .tcp_address = options.stream_address,
                         .tcp_tls = options.tls != nullptr}) {}
  ~RpcServerImpl() override { Shutdown(Nanos(0)); }

  absl::Status Serve(const RpcServerOptions& options) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    Tune(options, builder);
    const auto plain = grpc::InsecureServerCredentials();
    std::vector<int> ports(options.addresses.size(), 0);
    for (size_t i = 0; i < options.addresses.size(); ++i) {
      credentials_.push_back(options.tls != nullptr ? MakeTlsCredentials(*options.tls) : plain);
      builder.AddListeningPort(options.addresses[i], credentials_.back(), &ports[i]);
    }
    int unix_bound = 0;
    if (!options.unix_socket.empty()) {
      builder.AddListeningPort("unix:" + options.unix_socket, plain, &unix_bound);
    }
    builder.RegisterService(&space_service_);
    builder.RegisterService(&block_service_);
    builder.RegisterService(&context_service_);
    builder.RegisterService(&admin_service_);
    builder.RegisterService(&auth_service_);
    builder.RegisterService(&stream_service_);
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    for (size_t i = 0; i < ports.size(); ++i) {
      if (ports[i] == 0) return CannotBind(options.addresses[i]);
      const std::string& address = options.addresses[i];
      bound_.push_back(address.substr(0, address.rfind(':') + 1) + std::to_string(ports[i]));
    }
    if (!options.unix_socket.empty() && unix_bound == 0) return CannotBind(options.unix_socket);
    if (!server) return absl::InternalError("the gRPC server did not start");
    MutexLock lock(mutex_);
    server_ = std::move(server);
    Announce(false);
    return absl::OkStatus();
  }

  const std::vector<std::string>& bound_addresses() const override { return bound_; }

  void SetReady(bool ready) override {
    MutexLock lock(mutex_);
    if (!server_ || shutting_down_) return;
    Announce(ready);
  }

  void Shutdown(Nanos drain) override {
    grpc::Server* server = nullptr;
    {
      MutexLock lock(mutex_);
      if (!server_ || std::exchange(shutting_down_, true)) return;
      Announce(false);
      server = server_.get();
    }
    gate_.StopAdmitting();
    server->Shutdown(std::chrono::system_clock::now() + drain);
    server->Wait();
  }

 private:
  void Announce(bool ready) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
    health->SetServingStatus("", true);
    for (const char* name : {"mnemo.ready", "mnemo.v1.SpaceService", "mnemo.v1.BlockService",
                             "mnemo.v1.ContextService", "mnemo.v1.AdminService",
                             "mnemo.v1.AuthService", "mnemo.v1.StreamService"}) {
      health->SetServingStatus(name, ready);
    }
  }

  static absl::Status CannotBind(const std::string& address) {
    return absl::AlreadyExistsError(
        fmt::format("cannot listen on {}: it is taken, or not an address of this host", address));
  }

  Gate& gate_;
  SpaceServiceHandler space_service_;
  BlockServiceHandler block_service_;
  ContextServiceHandler context_service_;
  AdminServiceHandler admin_service_;
  AuthServiceHandler auth_service_;
  StreamServiceHandler stream_service_;
  std::vector<std::string> bound_;
  std::vector<std::shared_ptr<grpc::ServerCredentials>> credentials_;  // outlive server_
  Mutex mutex_;
  std::unique_ptr<grpc::Server> server_ ABSL_GUARDED_BY(mutex_);
  bool shutting_down_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const RpcServerOptions& options,
                                                            Gate& gate, const RpcRooms& rooms) {
  auto server = std::make_unique<RpcServerImpl>(options, gate, rooms);
  if (absl::Status status = server->Serve(options); !status.ok()) return status;
  return server;
}

}  // namespace mnemo
