// Streams over TCP beside Redis, and beside a socket that carries nothing else, plain and
// under TLS: rounds of both interleaved over loopback, one request outstanding a client, L1
// behind them.
//
// The same work on all sides: a digest of the payload before every put and after every
// get, compared with the one put.
//
//   bench_bulk MNEMO_TARGET MNEMOD_PID REDIS_PORT REDIS_PID TLS_TARGET FOLDER [ROUNDS]
//
// FOLDER has ca.pem, node.pem and node.key, which the daemon of TLS_TARGET shows. Prints
// one flat JSON object.
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "mnemo/client.h"
#include "storage/base/descriptor.h"
#include "storage/base/local_socket.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "tests/bench/planes/rounds.h"

namespace mnemo::bench {
namespace {

constexpr Size kSizes[] = {{"128KiB", "bulk", 128 * kKiB, 400},
                           {"2MiB", "bulk", 2 * kMiB, 64},
                           {"8MiB", "bulk", 8 * kMiB, 16},
                           {"32MiB", "bulk", 32 * kMiB, 4}};
constexpr int kClientCounts[] = {1, 4};

struct Arguments {
  std::string target;
  int mnemod_pid = 0;
  int redis_port = 0;
  int redis_pid = 0;
  int memcached_port = 0;
  int memcached_pid = 0;
  std::string tls_target;
  std::string folder;
  int rounds = 5;
};

std::string TextOf(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class BulkPeer final : public Peer {
 public:
  BulkPeer(std::unique_ptr<client::Client> mnemo, uint64_t size)
      : mnemo_(std::move(mnemo)), out_(size), in_(size) {}
  std::span<uint8_t> out() override { return out_; }
  std::span<uint8_t> in() override { return in_; }
  absl::Status Put(const std::string& key, uint64_t size, bool checked) override {
    client::PutRequest request{.space = "bench-planes", .send_digests = checked};
    request.parts = {{.key = key, .data = out().first(size)}};
    MNEMO_ASSIGN_OR_RETURN(const auto result, mnemo_->blocks().Put(request, kBulk));
    if (result.parts[0].outcome == client::PutOutcome::kStored) return absl::OkStatus();
    return absl::InternalError("not stored: " + result.parts[0].status.ToString());
  }
  absl::Status Get(const std::string& key, uint64_t size, const client::Digest* digest) override {
    const std::string_view view = key;
    const client::Destination to{.memory = in().first(size)};
    MNEMO_ASSIGN_OR_RETURN(const auto result, mnemo_->blocks().Get({.space = "bench-planes",
                                                                    .keys = {&view, 1},
                                                                    .destinations = {&to, 1},
                                                                    .verify = digest != nullptr},
                                                                   kBulk));
    MNEMO_RETURN_IF_ERROR(result.parts[0].status);
    // Verified by the client, so the digest is that of the bytes.
    if (digest != nullptr && result.parts[0].digest != *digest) {
      return absl::DataLossError("other bytes came back");
    }
    if (result.parts[0].level == client::Level::kL1) return absl::OkStatus();
    return absl::InternalError("not read from L1");
  }

 private:
  static inline const client::CallOptions kBulk{.plane = client::PlaneChoice::kBulk};
  const std::unique_ptr<client::Client> mnemo_;
  std::vector<uint8_t> out_, in_;
};

struct SslContextDeleter {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using SslContext = std::unique_ptr<SSL_CTX, SslContextDeleter>;

// One end of a connection that carries bytes and nothing else.
class RawEnd {
 public:
  // `context` is null for a plain one. The handshake is made by the first bytes.
  RawEnd(Descriptor socket, SSL_CTX* context, bool accepts) : socket_(std::move(socket)) {
    const int on = 1;
    ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (context == nullptr) return;
    ssl_.reset(SSL_new(context));
    SSL_set_fd(ssl_.get(), socket_.get());
    accepts ? SSL_set_accept_state(ssl_.get()) : SSL_set_connect_state(ssl_.get());
  }
  // All of them; false: the other end has gone.
  bool Send(std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
      size_t sent = 0;
      if (ssl_) {
        if (SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &sent) != 1) return false;
      } else {
        const ssize_t result = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (result <= 0) return false;
        sent = static_cast<size_t>(result);
      }
      bytes = bytes.subspan(sent);
    }
    return true;
  }
  bool Receive(std::span<uint8_t> into) {
    while (!into.empty()) {
      size_t got = 0;
      if (ssl_) {
        if (SSL_read_ex(ssl_.get(), into.data(), into.size(), &got) != 1) return false;
      } else {
        const ssize_t result = ::recv(socket_.get(), into.data(), into.size(), MSG_WAITALL);
        if (result <= 0) return false;
        got = static_cast<size_t>(result);
      }
      into = into.subspan(got);
    }
    return true;
  }
  void Shutdown() { ::shutdown(socket_.get(), SHUT_RDWR); }

 private:
  struct SslDeleter {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  const Descriptor socket_;
  std::unique_ptr<SSL, SslDeleter> ssl_;
};

// A connected pair over loopback TCP, not paced, as our own streams.
absl::StatusOr<std::pair<Descriptor, Descriptor>> TcpPair() {
  const Descriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const to = reinterpret_cast<sockaddr*>(&address);
  Descriptor client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  SendUnpacedWithinHost(listener.get(), to);
  SendUnpacedWithinHost(client.get(), to);
  if (::bind(listener.get(), to, size) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), to, &size) != 0 || ::connect(client.get(), to, size) != 0) {
    return absl::InternalError(fmt::format("raw TCP: {}", std::strerror(errno)));
  }
  Descriptor server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!server.valid()) return absl::InternalError("raw TCP: nothing to accept");
  return std::make_pair(std::move(client), std::move(server));
}

// A server of values and nothing besides: a thread that sends the next of them when it is
// told to, or receives it and says so. They are as many as the other side's of a round, so
// that neither has them in the processor's cache, and lie in memory that is there.
class RawPeer final : public Peer {
 public:
  RawPeer(Descriptor ours, Descriptor theirs, SSL_CTX* connect, SSL_CTX* accept, uint64_t size)
      : out_(size),
        in_(size),
        values_(std::max<uint64_t>(1, kHeldBytes / size), std::vector<uint8_t>(size)),
        ours_(std::move(ours), connect, /*accepts=*/false),
        theirs_(std::move(theirs), accept, /*accepts=*/true),
        thread_([this] { Serve(); }) {}
  ~RawPeer() override {
    ours_.Shutdown();
    thread_.join();
  }
  std::span<uint8_t> out() override { return out_; }
  std::span<uint8_t> in() override { return in_; }
  absl::Status Put(const std::string&, uint64_t size, bool checked) override {
    if (checked) MNEMO_RETURN_IF_ERROR(MakeDigest(out().first(size)));
    uint8_t said = 'p';
    if (ours_.Send({&said, 1}) && ours_.Send(out()) && ours_.Receive({&said, 1})) {
      return absl::OkStatus();
    }
    return absl::InternalError("raw put");
  }
  absl::Status Get(const std::string&, uint64_t size, const client::Digest* digest) override {
    const uint8_t get = 'g';
    if (!ours_.Send({&get, 1}) || !ours_.Receive(in())) return absl::InternalError("raw get");
    return CheckDigest(in().first(size), digest);
  }

 private:
  static constexpr uint64_t kHeldBytes = 128 * kMiB;

  void Serve() {
    uint8_t what = 0;
    size_t got = 0;
    size_t put = 0;
    // The first put warms up, and is not got.
    std::vector<uint8_t> warm(values_[0].size());
    bool good = theirs_.Receive({&what, 1}) && theirs_.Receive(warm) && theirs_.Send({&what, 1});
    while (good && theirs_.Receive({&what, 1})) {
      good = what == 'g'
                 ? theirs_.Send(values_[got++ % values_.size()])
                 : theirs_.Receive(values_[put++ % values_.size()]) && theirs_.Send({&what, 1});
    }
  }

  std::vector<uint8_t> out_, in_;
  std::vector<std::vector<uint8_t>> values_;
  RawEnd ours_, theirs_;
  std::thread thread_;
};

absl::StatusOr<std::unique_ptr<Peer>> MakeRaw(SSL_CTX* connect, SSL_CTX* accept, uint64_t size) {
  MNEMO_ASSIGN_OR_RETURN(auto pair, TcpPair());
  return std::make_unique<RawPeer>(std::move(pair.first), std::move(pair.second), connect, accept,
                                   size);
}

client::ClientOptions OptionsOf(const Arguments& arguments, bool tls) {
  client::ClientOptions options{.target = tls ? arguments.tls_target : arguments.target};
  if (tls) options.tls = client::TlsOptions{.ca = TextOf(arguments.folder + "/ca.pem")};
  return options;
}

absl::StatusOr<std::unique_ptr<Peer>> MakeBulk(const Arguments& arguments, bool tls,
                                               uint64_t size) {
  MNEMO_ASSIGN_OR_RETURN(auto mnemo, client::Client::Connect(OptionsOf(arguments, tls)));
  return std::make_unique<BulkPeer>(std::move(mnemo), size);
}

absl::Status BesideCaches(const Arguments& arguments, nlohmann::ordered_json& out) {
  MNEMO_ASSIGN_OR_RETURN(BenchSpace space, BenchSpace::Open(OptionsOf(arguments, /*tls=*/false)));
  const auto over = [](int port) {
    return [port] { return LineSocket::Connect("127.0.0.1", port); };
  };
  const Comparison comparison{
      .ours = {.name = "bulk",
               .pid = arguments.mnemod_pid,
               .make = [&](uint64_t size) { return MakeBulk(arguments, /*tls=*/false, size); },
               .clear = [&] { return space.Clear(); }},
      .rivals = {CacheRival<RedisClient>("redis_tcp", arguments.redis_pid, "ratio", "over_redis",
                                         over(arguments.redis_port)),
                 CacheRival<MemcachedClient>("memcached_tcp", arguments.memcached_pid,
                                             "over_memcached", "over_memcached",
                                             over(arguments.memcached_port))},
      .rounds = arguments.rounds};
  for (const Size& size : kSizes) {
    for (const int clients : kClientCounts) {
      std::cerr << fmt::format("bulk {} with {} clients\n", size.name, clients);
      MNEMO_RETURN_IF_ERROR(Compare(comparison, size, clients, /*checked=*/true, out).status());
    }
  }
  return space.Delete();
}

// Beside a socket of the same kind. The figure without a size is the worse of two.
absl::Status BesideRaw(const Arguments& arguments, bool tls, nlohmann::ordered_json& out) {
  const SslContext connect(tls ? SSL_CTX_new(TLS_client_method()) : nullptr);
  const SslContext accept(tls ? SSL_CTX_new(TLS_server_method()) : nullptr);
  if (tls && (SSL_CTX_use_certificate_chain_file(accept.get(),
                                                 (arguments.folder + "/node.pem").c_str()) != 1 ||
              SSL_CTX_use_PrivateKey_file(accept.get(), (arguments.folder + "/node.key").c_str(),
                                          SSL_FILETYPE_PEM) != 1)) {
    return absl::InternalError("the certificate of the raw server cannot be used");
  }
  const std::string raw = tls ? "raw_tls" : "raw_tcp";
  MNEMO_ASSIGN_OR_RETURN(BenchSpace space, BenchSpace::Open(OptionsOf(arguments, tls)));
  const Comparison comparison{
      .ours = {.name = tls ? "bulk_tls" : "bulk",
               .make = [&](uint64_t size) { return MakeBulk(arguments, tls, size); },
               .clear = [&] { return space.Clear(); }},
      .rivals = {{.contender = {.name = raw,
                                .make =
                                    [&](uint64_t size) {
                                      return MakeRaw(connect.get(), accept.get(), size);
                                    }},
                  .ratio = "of_" + raw}},
      .rounds = arguments.rounds};
  const std::string figure = fmt::format("{}_get_of_{}", comparison.ours.name, raw);
  double worst = 0;
  for (const Size& size : kSizes) {
    if (size.bytes != 2 * kMiB && size.bytes != 8 * kMiB) continue;
    std::cerr << fmt::format("{} {}\n", figure, size.name);
    MNEMO_ASSIGN_OR_RETURN(const Ratios ratios,
                           Compare(comparison, size, 1, /*checked=*/true, out));
    worst = worst == 0 ? ratios.get : std::min(worst, ratios.get);
  }
  out[figure] = worst;
  return space.Delete();
}

absl::StatusOr<nlohmann::ordered_json> Run(const Arguments& arguments) {
  nlohmann::ordered_json out = {{"bulk_rounds", arguments.rounds}};
  MNEMO_RETURN_IF_ERROR(BesideRaw(arguments, /*tls=*/false, out));
  MNEMO_RETURN_IF_ERROR(BesideRaw(arguments, /*tls=*/true, out));
  MNEMO_RETURN_IF_ERROR(BesideCaches(arguments, out));
  return out;
}

}  // namespace
}  // namespace mnemo::bench

int main(int argc, char** argv) {
  if (argc < 9) {
    std::cerr << "usage: bench_bulk MNEMO_TARGET MNEMOD_PID REDIS_PORT REDIS_PID MEMCACHED_PORT "
                 "MEMCACHED_PID TLS_TARGET FOLDER [ROUNDS]\n";
    return 2;
  }
  const auto out = mnemo::bench::Run({.target = argv[1],
                                      .mnemod_pid = std::stoi(argv[2]),
                                      .redis_port = std::stoi(argv[3]),
                                      .redis_pid = std::stoi(argv[4]),
                                      .memcached_port = std::stoi(argv[5]),
                                      .memcached_pid = std::stoi(argv[6]),
                                      .tls_target = argv[7],
                                      .folder = argv[8],
                                      .rounds = argc > 9 ? std::stoi(argv[9]) : 5});
  if (!out.ok()) {
    std::cerr << "bench_bulk: " << out.status().message() << '\n';
    return 1;
  }
  std::cout << out->dump(2) << '\n';
  return 0;
}
