#include "server/transfer/stream_server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <utility>
#include <vector>

#include "server/transfer/tcp_socket.h"
#include "storage/base/local_socket.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

class StreamServerImpl final : public StreamServer {
 public:
  StreamServerImpl(const StreamServerOptions& options, const StreamRooms& rooms)
      : options_(options), rooms_(rooms) {}
  ~StreamServerImpl() override { Shutdown(Nanos(0)); }

  absl::Status Open() {
    if (!options_.unix_socket.empty()) {
      MNEMO_ASSIGN_OR_RETURN(unix_.socket, ListenUnix(options_.unix_socket, options_.access));
      // Its sockets inherit it: of bytes that come before Welcome the sender is known, too.
      ShowSenders(unix_.socket.get());
    }
    if (!options_.tcp_address.empty()) {
      MNEMO_ASSIGN_OR_RETURN(TcpListener listener, ListenTcp(options_.tcp_address));
      tcp_.socket = std::move(listener.socket);
      tcp_address_ = std::move(listener.address);
    }
    for (size_t i = 0; i < options_.threads; ++i) {
      MNEMO_ASSIGN_OR_RETURN(auto loop,
                             EventLoop::Start(fmt::format("streams-{}", i), options_.busy_poll));
      loops_.push_back(std::move(loop));
    }
    spare_ = Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    for (Listener* const listener : {&unix_, &tcp_}) {
      if (!listener->socket.valid()) continue;
      absl::Status added = loops_[0]->Add(listener->socket.get(), EPOLLIN, *listener);
      if (added.ok()) continue;
      loops_.clear();
      return added;
    }
    return absl::OkStatus();
  }

  const std::string& tcp_address() const override { return tcp_address_; }

  size_t connections() const override {
    MutexLock lock(mutex_);
    return connections_.size();
  }

  void Shutdown(Nanos drain) override {
    {
      MutexLock lock(mutex_);
      if (std::exchange(stopping_, true)) return;
    }
    if (loops_.empty()) return;
    // On its own thread no event of it is being handled.
    loops_[0]->Post([this] {
      for (Listener* const listener : {&unix_, &tcp_}) {
        if (!listener->socket.valid()) continue;
        loops_[0]->Remove(listener->socket.get());
        listener->socket = Descriptor();
      }
      if (!options_.unix_socket.empty()) ::unlink(options_.unix_socket.c_str());
      ForEach([](StreamConnection& connection) { connection.Drain(); });
      MutexLock lock(mutex_);
      listening_ = false;
      changed_.SignalAll();
    });
    const auto deadline = std::chrono::steady_clock::now() + drain;
    {
      MutexLock lock(mutex_);
      while (listening_) changed_.Wait(mutex_);
      for (auto now = std::chrono::steady_clock::now(); !connections_.empty() && now < deadline;
           now = std::chrono::steady_clock::now()) {
        changed_.WaitFor(mutex_, deadline - now);
      }
    }
    ForEach([](StreamConnection& connection) {
      connection.Close(stream::CloseReason::kShutdown, "the daemon is shutting down");
    });
    {
      MutexLock lock(mutex_);
      while (!connections_.empty()) changed_.Wait(mutex_);
    }
    loops_.clear();
  }

 private:
  struct Listener;
  struct Entry {
    EventLoop* loop = nullptr;
    Listener* listener = nullptr;
    std::unique_ptr<StreamConnection> connection;
  };

  struct Listener final : EventLoop::Handler {
    explicit Listener(StreamServerImpl& to) : server(to) {}
    void OnEvents(uint32_t) override { server.Accept(*this); }
    StreamServerImpl& server;
    Descriptor socket;       // of the first loop's thread
    size_t connections = 0;  // guarded by the server's mutex
  };

  // Calls `visit` for every connection, each on its loop; does not wait for it.
  void ForEach(void (*visit)(StreamConnection&)) {
    MutexLock lock(mutex_);
    for (const auto& [connection, entry] : connections_) {
      // It is destroyed by a task of the same loop, which is behind this one or has
      // taken it out of the map.
      entry.loop->Post([this, visit, connection = connection] {
        {
          MutexLock held(mutex_);
          if (!connections_.contains(connection)) return;
        }
        visit(*connection);
      });
    }
  }

  void Accept(Listener& listener) {
    for (;;) {
      Descriptor socket(
          ::accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!socket.valid() && (errno == EMFILE || errno == ENFILE)) {
        // Whoever waits in the backlog would keep the loop turning: a descriptor that
        // was kept for this turns one away.
        spare_ = Descriptor();
        socket = Descriptor(::accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
        socket = Descriptor();
        spare_ = Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        return;
      }
      if (!socket.valid()) return;
      if (&listener == &tcp_) {
        WelcomeTcp(std::move(socket));
      } else if (absl::StatusOr<Peer> peer = Peer::Of(socket.get());
                 peer.ok() && ShowSenders(socket.get())) {
        std::string address = fmt::format("unix:uid={}", peer->uid());
        Welcome(listener, stream::StreamSocket::MakePlain(std::move(socket)),
                {.plane = std::string(kFastPlane),
                 .address = std::move(address),
                 .peer = *std::move(peer)});
      }
    }
  }

  void WelcomeTcp(Descriptor socket) {
    PrepareTcp(socket.get());
    StreamOrigin origin{.plane = std::string(kBulkPlane), .address = PeerAddress(socket.get())};
    if (options_.tls == nullptr) {
      return Welcome(tcp_, stream::StreamSocket::MakePlain(std::move(socket)), std::move(origin));
    }
    // With what the files hold now.
    stream::StreamSocket::SslConnection ssl(SSL_new(options_.tls->server_context().get()));
    if (ssl) SSL_set_accept_state(ssl.get());
    auto made = stream::StreamSocket::MakeTls(std::move(socket), std::move(ssl));
    if (made.ok()) Welcome(tcp_, *std::move(made), std::move(origin));
  }

  void Welcome(Listener& listener, std::unique_ptr<stream::StreamSocket> socket,
               StreamOrigin origin) {
    MutexLock lock(mutex_);
    if (stopping_ || listener.connections >= options_.max_connections) return;
    ++listener.connections;
    EventLoop& loop = *loops_[turn_++ % loops_.size()];
    auto connection = std::make_unique<StreamConnection>(
        rooms_, copies_, loop, std::move(socket), std::move(origin),
        [this, &loop](StreamConnection& gone) { Forget(loop, gone); });
    StreamConnection* const raw = connection.get();
    connections_[raw] = {&loop, &listener, std::move(connection)};
    loop.Post([raw] { raw->Start(); });
  }

  // On any thread, as the last thing that `gone` does.
  void Forget(EventLoop& loop, StreamConnection& gone) {
    loop.Post([this, connection = &gone] {
      Entry entry;
      {
        MutexLock lock(mutex_);
        const auto found = connections_.find(connection);
        entry = std::move(found->second);
        connections_.erase(found);
        --entry.listener->connections;
      }
      entry.connection.reset();
      MutexLock lock(mutex_);
      changed_.SignalAll();
    });
  }

  const StreamServerOptions options_;
  const StreamRooms rooms_;
  CopyCrew copies_{CopyCrew::HelpersOfThisMachine()};
  Listener unix_{*this};
  Listener tcp_{*this};
  std::string tcp_address_;
  Descriptor spare_;  // of the first loop's thread
  std::vector<std::unique_ptr<EventLoop>> loops_;
  mutable Mutex mutex_;  // taken before a loop's
  CondVar changed_;
  std::map<StreamConnection*, Entry> connections_ ABSL_GUARDED_BY(mutex_);
  size_t turn_ ABSL_GUARDED_BY(mutex_) = 0;
  bool listening_ ABSL_GUARDED_BY(mutex_) = true;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

absl::Status StreamServerOptions::Validate() const {
  if (unix_socket.empty() && tcp_address.empty()) {
    return absl::InvalidArgumentError("neither unix_socket nor tcp_address is given");
  }
  if (threads < 1 || threads > 64) {
    return absl::InvalidArgumentError(fmt::format("threads is {}; it must be 1 to 64", threads));
  }
  if (max_connections < 1 || max_connections > 65536) {
    return absl::InvalidArgumentError(
        fmt::format("max_connections is {}; it must be 1 to 65536", max_connections));
  }
  return CheckSocketOwner(access.owner);
}

absl::StatusOr<std::unique_ptr<StreamServer>> StreamServer::Start(
    const StreamServerOptions& options, const StreamRooms& rooms) {
  MNEMO_RETURN_IF_ERROR(options.Validate());
  auto server = std::make_unique<StreamServerImpl>(options, rooms);
  MNEMO_RETURN_IF_ERROR(server->Open());
  return server;
}

}  // namespace mnemo
