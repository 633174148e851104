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

namespace {

// How ours did beside one rival, by round.
struct Beside {
  std::vector<double> get, put, cpu;
};

}  // namespace

absl::StatusOr<Ratios> Compare(const Comparison& comparison, const Size& size, int clients,
                               bool checked, nlohmann::ordered_json& out) {
  const std::vector<uint8_t> payload = PayloadOf(size.bytes);
  std::vector<const Contender*> all = {&comparison.ours};
  for (const Rival& rival : comparison.rivals) all.push_back(&rival.contender);
  std::vector<std::vector<double>> gets(all.size());
  std::vector<std::vector<double>> puts(all.size());
  std::vector<Beside> beside(comparison.rivals.size());
  for (int round = 0; round <= comparison.rounds; ++round) {
    std::vector<Rates> rates(all.size());
    for (size_t turn = 0; turn < all.size(); ++turn) {
      const size_t next = (static_cast<size_t>(round) + turn) % all.size();
      const std::string name = fmt::format("{}-{}-{}-{}", size.name, clients, checked, round);
      // A cache that is full is slower, and what displaces this turn's values may be another's.
      for (const Contender* contender : all) {
        if (contender->clear) MNEMO_RETURN_IF_ERROR(contender->clear());
      }
      MNEMO_ASSIGN_OR_RETURN(rates[next], Round(*all[next], name, size, clients, payload, checked));
    }
    if (round == 0) continue;  // all warm up
    for (size_t i = 0; i < all.size(); ++i) {
      gets[i].push_back(rates[i].get_gbps);
      puts[i].push_back(rates[i].put_gbps);
    }
    for (size_t i = 0; i < beside.size(); ++i) {
      beside[i].get.push_back(rates[0].get_gbps / rates[i + 1].get_gbps);
      beside[i].put.push_back(rates[0].put_gbps / rates[i + 1].put_gbps);
      beside[i].cpu.push_back(rates[0].cpu_per_gb / rates[i + 1].cpu_per_gb);
    }
  }
  const std::string suffix =
      fmt::format("{}_{}_c{}", checked ? "" : "_unchecked", size.name, clients);
  for (size_t i = 0; i < all.size(); ++i) {
    Report(out, all[i]->name + "_get_gbps" + suffix, gets[i]);
    Report(out, all[i]->name + "_put_gbps" + suffix, puts[i]);
  }
  const std::string& ours = comparison.ours.name;
  for (size_t i = 0; i < beside.size(); ++i) {
    const Rival& rival = comparison.rivals[i];
    Report(out, fmt::format("{}_get_{}{}", ours, rival.ratio, suffix), beside[i].get);
    Report(out, fmt::format("{}_put_{}{}", ours, rival.ratio, suffix), beside[i].put);
    if (!rival.cpu.empty()) {
      Report(out, fmt::format("{}_cpu_seconds_per_gb_{}{}", ours, rival.cpu, suffix),
             beside[i].cpu);
    }
    if (clients == 1 && checked) {
      out[fmt::format("{}_get_{}_{}", ours, rival.ratio, size.name)] =
          Percentile(beside[i].get, 0.5);
      out[fmt::format("{}_put_{}_{}", ours, rival.ratio, size.name)] =
          Percentile(beside[i].put, 0.5);
    }
  }
  return Ratios{.put = Percentile(beside[0].put, 0.5), .get = Percentile(beside[0].get, 0.5)};
}

}  // namespace mnemo::bench
