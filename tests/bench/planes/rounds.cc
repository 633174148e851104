#include "tests/bench/planes/rounds.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "storage/base/status_macros.h"
#include "tests/bench/common/bench_support.h"

namespace mnemo::bench {
namespace {

// Runs `body(client)` on a thread each and returns the seconds until all ended.
absl::StatusOr<double> Timed(int clients, const std::function<absl::Status(size_t)>& body) {
  std::vector<absl::Status> status(static_cast<size_t>(clients));
  const auto start = BenchClock::now();
  std::vector<std::thread> threads;
  for (size_t c = 0; c < status.size(); ++c) {
    threads.emplace_back([&, c] { status[c] = body(c); });
  }
  for (std::thread& thread : threads) thread.join();
  const double seconds = Seconds(BenchClock::now() - start);
  for (const absl::Status& s : status) MNEMO_RETURN_IF_ERROR(s);
  return seconds;
}

double CpuOf(const Contender& contender) {
  return OwnCpuSeconds() + (contender.pid != 0 ? CpuSecondsOf(contender.pid) : 0);
}

// One round of one server.
absl::StatusOr<Rates> Round(const Contender& contender, const std::string& name, const Size& size,
                            int clients, std::span<const uint8_t> payload, bool checked) {
  std::vector<std::unique_ptr<Peer>> peers;
  for (int c = 0; c < clients; ++c) {
    MNEMO_ASSIGN_OR_RETURN(auto peer, contender.make(size.bytes));
    std::copy(payload.begin(), payload.end(), peer->out().begin());
    std::fill(peer->in().begin(), peer->in().end(), uint8_t{0});
    // Connects, and registers its memory.
    MNEMO_RETURN_IF_ERROR(peer->Put(fmt::format("{}-{}-warm", name, c), size.bytes, false));
    peers.push_back(std::move(peer));
  }
  const client::Digest digest = client::DigestOf(payload);
  const client::Digest* const expected = checked ? &digest : nullptr;
  const auto key = [&](size_t c, uint32_t i) { return fmt::format("{}-{}-{}", name, c, i); };
  const double cpu = CpuOf(contender);
  MNEMO_ASSIGN_OR_RETURN(const double put, Timed(clients, [&](size_t c) -> absl::Status {
                           for (uint32_t i = 0; i < size.calls; ++i) {
                             MNEMO_RETURN_IF_ERROR(peers[c]->Put(key(c, i), size.bytes, checked));
                           }
                           return absl::OkStatus();
                         }));
  MNEMO_ASSIGN_OR_RETURN(const double get, Timed(clients, [&](size_t c) -> absl::Status {
                           for (uint32_t i = 0; i < size.calls; ++i) {
                             MNEMO_RETURN_IF_ERROR(peers[c]->Get(key(c, i), size.bytes, expected));
                           }
                           return absl::OkStatus();
                         }));
  const double bytes = static_cast<double>(size.bytes) * size.calls * clients;
  return Rates{.put_gbps = bytes / put / 1e9,
               .get_gbps = bytes / get / 1e9,
               .cpu_per_gb = (CpuOf(contender) - cpu) / (2 * bytes / 1e9)};
}

std::vector<uint8_t> PayloadOf(uint64_t bytes) {
  std::vector<uint8_t> payload(bytes);
  std::mt19937_64 random(bytes);
  for (size_t i = 0; i + 8 <= payload.size(); i += 8) {
    const uint64_t word = random();
    std::memcpy(payload.data() + i, &word, 8);
  }
  return payload;
}

}  // namespace

double CpuSecondsOf(int pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  std::getline(file, line);
  std::istringstream rest(line.substr(line.rfind(')') + 2));
  std::string word;
  double ticks = 0;
  for (int field = 3; rest >> word; ++field) {
    if (field == 14 || field == 15) ticks += std::stod(word);
  }
  return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

double OwnCpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

absl::Status MakeDigest(std::span<const uint8_t> payload) {
  return client::DigestOf(payload) == client::Digest{} ? absl::InternalError("no digest")
                                                       : absl::OkStatus();
}

absl::Status CheckDigest(std::span<const uint8_t> payload, const client::Digest* expected) {
  if (expected == nullptr || client::DigestOf(payload) == *expected) return absl::OkStatus();
  return absl::DataLossError("other bytes came back");
}

absl::Status RedisPeer::Put(const std::string& key, uint64_t size, bool checked) {
  if (checked) MNEMO_RETURN_IF_ERROR(MakeDigest(out().first(size)));
  return redis_->Set(key, out().first(size));
}

absl::Status RedisPeer::Get(const std::string& key, uint64_t size, const client::Digest* digest) {
  MNEMO_RETURN_IF_ERROR(redis_->Get(key, in().first(size)));
  return CheckDigest(in().first(size), digest);
}

namespace {

client::Space DescribedSpace() {
  client::Space space{.name = "bench-planes", .tokens_per_block = 256};
  space.groups = {{.name = "bytes", .kind = client::GroupKind::kOpaque, .layers = 1}};
  return space;
}

}  // namespace

absl::StatusOr<BenchSpace> BenchSpace::Open(const client::ClientOptions& options) {
  MNEMO_ASSIGN_OR_RETURN(auto client, client::Client::Connect(options));
  MNEMO_RETURN_IF_ERROR(client->spaces().Open(DescribedSpace()).status());
  return BenchSpace(std::move(client));
}

absl::Status BenchSpace::Clear() {
  MNEMO_RETURN_IF_ERROR(Delete());
  return client_->spaces().Open(DescribedSpace()).status();
}

absl::Status BenchSpace::Delete() {
  return client_->spaces().Delete(DescribedSpace().name).status();
}

void Report(nlohmann::ordered_json& out, const std::string& name, std::vector<double> all) {
  out[name] = Percentile(all, 0.5);
  out[name + "_min"] = all.front();
  out[name + "_max"] = all.back();
}

absl::StatusOr<Ratios> Compare(const Comparison& comparison, const Size& size, int clients,
                               bool checked, nlohmann::ordered_json& out) {
  const std::vector<uint8_t> payload = PayloadOf(size.bytes);
  const Contender* const contenders[2] = {&comparison.ours, &comparison.theirs};
  std::vector<double> get[2], put[2], get_ratio, put_ratio, cpu_ratio;
  for (int round = 0; round <= comparison.rounds; ++round) {
    Rates rates[2];
    for (int turn = 0; turn < 2; ++turn) {
      const int server = (round + turn) % 2;
      const std::string name = fmt::format("{}-{}-{}-{}", size.name, clients, checked, round);
      MNEMO_RETURN_IF_ERROR(comparison.clear());
      MNEMO_ASSIGN_OR_RETURN(rates[server],
                             Round(*contenders[server], name, size, clients, payload, checked));
    }
    if (round == 0) continue;  // both warm up
    for (int server = 0; server < 2; ++server) {
      get[server].push_back(rates[server].get_gbps);
      put[server].push_back(rates[server].put_gbps);
    }
    get_ratio.push_back(rates[0].get_gbps / rates[1].get_gbps);
    put_ratio.push_back(rates[0].put_gbps / rates[1].put_gbps);
    cpu_ratio.push_back(rates[0].cpu_per_gb / rates[1].cpu_per_gb);
  }
  const std::string suffix =
      fmt::format("{}_{}_c{}", checked ? "" : "_unchecked", size.name, clients);
  for (int server = 0; server < 2; ++server) {
    Report(out, contenders[server]->name + "_get_gbps" + suffix, get[server]);
    Report(out, contenders[server]->name + "_put_gbps" + suffix, put[server]);
  }
  const std::string& ours = comparison.ours.name;
  Report(out, fmt::format("{}_get_{}{}", ours, comparison.ratio, suffix), get_ratio);
  Report(out, fmt::format("{}_put_{}{}", ours, comparison.ratio, suffix), put_ratio);
  if (comparison.theirs.pid != 0) {
    Report(out, fmt::format("{}_cpu_seconds_per_gb_over_redis{}", ours, suffix), cpu_ratio);
  }
  const Ratios medians = {.put = Percentile(put_ratio, 0.5), .get = Percentile(get_ratio, 0.5)};
  if (clients == 1 && checked) {
    out[fmt::format("{}_get_{}_{}", ours, comparison.ratio, size.name)] = medians.get;
    out[fmt::format("{}_put_{}_{}", ours, comparison.ratio, size.name)] = medians.put;
  }
  return medians;
}

}  // namespace mnemo::bench
