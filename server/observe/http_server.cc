#include "server/observe/http_server.h"

#include <arpa/inet.h>
#include <civetweb.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "server/config/address.h"
#include "storage/base/mutex.h"
#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr std::string_view kSecurityHeaders =
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cache-Control: no-store\r\n";

const char* ReasonOf(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Service Unavailable";
  }
}

std::string ContentPolicy(const HttpResponse& response) {
  return fmt::format(
      "Content-Security-Policy: default-src 'none'; style-src {}; base-uri 'none'; form-action "
      "'none'; frame-ancestors 'none'\r\n",
      response.style_hash.empty() ? "'none'" : fmt::format("'{}'", response.style_hash));
}

// What civetweb said first while it started: why it failed, which the error
// that it returns does not tell.
struct StartLog {
  Mutex mutex;
  std::string first ABSL_GUARDED_BY(mutex);
};

// Connects and leaves.
void Knock(const ListenAddress& address) {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return;
  sockaddr_in peer{};
  peer.sin_family = AF_INET;
  peer.sin_port = htons(address.port);
  inet_pton(AF_INET, address.host.c_str(), &peer.sin_addr);
  // Whether anybody answers is not our concern.
  (void)::connect(descriptor, reinterpret_cast<const sockaddr*>(&peer), sizeof(peer));
  ::close(descriptor);
}

class CivetServer final : public HttpServer {
 public:
  explicit CivetServer(std::map<std::string, Handler> routes) : routes_(std::move(routes)) {}
  ~CivetServer() override {
    if (context_ != nullptr) Stop();
    if (initialized_) mg_exit_library();
  }

  absl::Status Listen(const Options& options) {
    MNEMO_ASSIGN_OR_RETURN(bound_, ParseListenAddress(options.address));
    if (bound_.is_ipv6) {
      return absl::UnavailableError(fmt::format("cannot listen on {}: IPv4 only", options.address));
    }
    const std::string port = bound_.ToString();
    const std::string threads = fmt::format("{}", options.threads);
    const std::string timeout = fmt::format("{}", options.request_timeout_ms);
    std::array<const char*, 13> configuration = {"listening_ports",
                                                 port.c_str(),
                                                 "num_threads",
                                                 threads.c_str(),
                                                 "request_timeout_ms",
                                                 timeout.c_str(),
                                                 "enable_keep_alive",
                                                 "no",
                                                 "enable_directory_listing",
                                                 "no",
                                                 "decode_url",
                                                 "no",
                                                 nullptr};
    mg_init_library(MG_FEATURES_DEFAULT);
    initialized_ = true;
    mg_callbacks callbacks{};
    callbacks.begin_request = &CivetServer::OnRequest;
    callbacks.log_message = &CivetServer::OnLog;
    unsigned code = 0;
    std::array<char, 256> text{};
    mg_init_data init{&callbacks, this, configuration.data()};
    mg_error_data error{&code, text.data(), text.size()};
    context_ = mg_start2(&init, &error);
    if (context_ == nullptr) return StartError(options.address, text.data());
    mg_server_port bound{};
    if (mg_get_server_ports(context_, 1, &bound) < 1) {
      return absl::UnavailableError(fmt::format("{}: the bound port is not known", port));
    }
    bound_.port = static_cast<uint16_t>(bound.port);
    address_ = bound_.ToString();
    return absl::OkStatus();
  }

  const std::string& address() const override { return address_; }

 private:
  // civetweb looks whether it shall stop once in two seconds, or when somebody
  // connects.
  void Stop() {
    Mutex mutex;
    CondVar changed;
    bool stopped = false;
    std::thread stopper([&] {
      mg_stop(context_);
      MutexLock lock(mutex);
      stopped = true;
      changed.Signal();
    });
    ListenAddress door = bound_;
    if (door.host == "0.0.0.0") door.host = "127.0.0.1";
    {
      MutexLock lock(mutex);
      while (!stopped) {
        Knock(door);
        (void)changed.WaitFor(mutex, std::chrono::milliseconds(5));
      }
    }
    stopper.join();
  }

  absl::Status StartError(const std::string& address, const char* text) {
    MutexLock lock(log_.mutex);
    const std::string why = log_.first.empty() ? std::string(text) : log_.first;
    const std::string message = fmt::format("cannot listen on {}: {}", address, why);
    if (why.find(std::strerror(EADDRINUSE)) != std::string::npos) {
      return absl::AlreadyExistsError(message);
    }
    return absl::UnavailableError(message);
  }

  static int OnLog(const mg_connection* connection, const char* message) {
    auto* self = static_cast<CivetServer*>(mg_get_user_data(mg_get_context(connection)));
    MutexLock lock(self->log_.mutex);
    if (self->log_.first.empty()) self->log_.first = message;
    return 1;  // not to civetweb's own log
  }

  // 1: answered.
  static int OnRequest(mg_connection* connection) {
    const mg_request_info* request = mg_get_request_info(connection);
    const auto* self = static_cast<const CivetServer*>(request->user_data);
    const std::string_view method = request->request_method;
    const bool head = method == "HEAD";
    HttpResponse response;
    if (method != "GET" && !head) {
      response = {.status = 405, .body = "only GET and HEAD\n"};
    } else if (const auto route = self->routes_.find(request->local_uri);
               route != self->routes_.end()) {
      response = route->second();
    } else {
      response = {.status = 404, .body = "no such page\n"};
    }
    const std::string head_lines = fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: "
        "close\r\n{}{}{}\r\n",
        response.status, ReasonOf(response.status), response.content_type, response.body.size(),
        response.status == 405 ? "Allow: GET, HEAD\r\n" : "", ContentPolicy(response),
        kSecurityHeaders);
    mg_write(connection, head_lines.data(), head_lines.size());
    if (!head) mg_write(connection, response.body.data(), response.body.size());
    return 1;
  }

  const std::map<std::string, Handler> routes_;
  StartLog log_;
  ListenAddress bound_;
  std::string address_;
  mg_context* context_ = nullptr;
  bool initialized_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const Options& options, std::map<std::string, Handler> routes) {
  auto server = std::make_unique<CivetServer>(std::move(routes));
  MNEMO_RETURN_IF_ERROR(server->Listen(options));
  return server;
}

}  // namespace mnemo
