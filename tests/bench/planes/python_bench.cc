// The Python client beside the C++ one, over registered memory and over streams of TCP:
// rounds of both interleaved, one request outstanding, the same daemon, L1 behind it.
//
// The same work on both sides: the client digests the payload of a put before it is sent,
// and that of a get when it has come.
//
//   bench_python MNEMO_TARGET PYTHON SCRIPT [ROUNDS]
//
// SCRIPT is python_rounds.py. Prints one flat JSON object.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mnemo/client.h"
#include "storage/base/descriptor.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "tests/bench/common/bench_support.h"
#include "tests/bench/planes/rounds.h"

namespace mnemo::bench {
namespace {

constexpr Size kSizes[] = {
    {"2MiB", "", 2 * kMiB, 64}, {"8MiB", "", 8 * kMiB, 16}, {"32MiB", "", 32 * kMiB, 4}};
constexpr char kSpace[] = "bench-planes";

// What a side does in a round: "put" or "get" of blocks PREFIX0, PREFIX1, ... Answers the
// seconds of all.
class Side {
 public:
  virtual ~Side() = default;
  virtual absl::StatusOr<double> Run(const std::string& what, const std::string& prefix,
                                     uint32_t calls) = 0;
};

class CppSide final : public Side {
 public:
  static absl::StatusOr<std::unique_ptr<Side>> Make(const std::string& target, bool registered,
                                                    uint64_t size) {
    auto made = std::make_unique<CppSide>();
    MNEMO_ASSIGN_OR_RETURN(made->client_, client::Client::Connect({.target = target}));
    if (registered) {
      MNEMO_ASSIGN_OR_RETURN(made->shared_, made->client_->AllocateShared(2 * size));
      made->memory_ = made->shared_->bytes();
    } else {
      made->own_.resize(2 * size);
      made->memory_ = made->own_;
    }
    for (size_t i = 0; i < size; ++i) made->memory_[i] = static_cast<uint8_t>(i * 131 >> 3);
    made->options_.plane = registered ? client::PlaneChoice::kFast : client::PlaneChoice::kBulk;
    return made;
  }
  absl::StatusOr<double> Run(const std::string& what, const std::string& prefix,
                             uint32_t calls) override {
    const auto start = BenchClock::now();
    for (uint32_t i = 0; i < calls; ++i) {
      const std::string key = fmt::format("{}{}", prefix, i);
      MNEMO_RETURN_IF_ERROR(what == "put" ? Put(key) : Get(key));
    }
    return Seconds(BenchClock::now() - start);
  }

 private:
  absl::Status Put(const std::string& key) {
    client::PutRequest request{.space = kSpace, .send_digests = true};
    request.parts = {{.key = key, .data = memory_.first(memory_.size() / 2)}};
    MNEMO_ASSIGN_OR_RETURN(const auto result, client_->blocks().Put(request, options_));
    if (result.parts[0].outcome == client::PutOutcome::kStored) return absl::OkStatus();
    return absl::InternalError("not stored: " + result.parts[0].status.ToString());
  }
  absl::Status Get(const std::string& key) {
    const std::string_view view = key;
    const client::Destination to{.memory = memory_.subspan(memory_.size() / 2)};
    MNEMO_ASSIGN_OR_RETURN(
        const auto result,
        client_->blocks().Get(
            {.space = kSpace, .keys = {&view, 1}, .destinations = {&to, 1}, .verify = true},
            options_));
    return result.parts[0].status;
  }

  std::unique_ptr<client::Client> client_;
  std::unique_ptr<client::SharedMemory> shared_;
  std::vector<uint8_t> own_;
  std::span<uint8_t> memory_;
  client::CallOptions options_;
};

// A child that is told what to do line by line, and answers each with its seconds.
class PythonSide final : public Side {
 public:
  static absl::StatusOr<std::unique_ptr<Side>> Make(const std::vector<std::string>& command) {
    int to[2];
    int from[2];
    if (::pipe2(to, O_CLOEXEC) != 0 || ::pipe2(from, O_CLOEXEC) != 0) {
      return absl::ResourceExhaustedError("no pipe");
    }
    auto made = std::make_unique<PythonSide>();
    made->child_ = ::fork();
    if (made->child_ == 0) {
      ::dup2(to[0], 0);
      ::dup2(from[1], 1);
      std::vector<char*> arguments;
      for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
      arguments.push_back(nullptr);
      ::execvp(arguments[0], arguments.data());
      ::_exit(127);
    }
    ::close(to[0]);
    ::close(from[1]);
    made->to_ = ::fdopen(to[1], "w");
    made->from_ = ::fdopen(from[0], "r");
    return made;
  }
  ~PythonSide() override {
    std::fclose(to_);  // its end
    std::fclose(from_);
    ::waitpid(child_, nullptr, 0);
  }
  absl::StatusOr<double> Run(const std::string& what, const std::string& prefix,
                             uint32_t calls) override {
    fmt::print(to_, "{} {} {}\n", what, prefix, calls);
    std::fflush(to_);
    double seconds = 0;
    if (std::fscanf(from_, "%lf", &seconds) == 1) return seconds;
    return absl::InternalError("the Python client has ended");
  }

 private:
  pid_t child_ = -1;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
};

struct Arguments {
  std::string target;
  std::string python;
  std::string script;
  int rounds = 5;
};

// Figures of one plane and size; answers the smaller of the two median ratios.
absl::StatusOr<double> Compare(const Arguments& arguments, const std::string& plane,
                               const Size& size, nlohmann::ordered_json& out) {
  const bool registered = plane == "registered";
  std::unique_ptr<Side> sides[2];
  MNEMO_ASSIGN_OR_RETURN(sides[0], CppSide::Make(arguments.target, registered, size.bytes));
  MNEMO_ASSIGN_OR_RETURN(
      sides[1], PythonSide::Make({arguments.python, arguments.script, arguments.target, kSpace,
                                  registered ? "fast" : "bulk", fmt::format("{}", size.bytes)}));
  const double gigabytes = static_cast<double>(size.bytes) * size.calls / 1e9;
  const char* const names[2] = {"cpp", "python"};
  double worst = 0;
  std::vector<double> rates[2][2];
  std::vector<double> ratios[2];
  const std::string whats[2] = {"put", "get"};
  for (int round = 0; round <= arguments.rounds; ++round) {
    double rate[2][2] = {};
    for (int turn = 0; turn < 2; ++turn) {
      const int side = (round + turn) % 2;
      for (int what = 0; what < 2; ++what) {
        const std::string prefix = fmt::format("{}-{}-{}-", size.name, names[side], round);
        MNEMO_ASSIGN_OR_RETURN(const double seconds,
                               sides[side]->Run(whats[what], prefix, size.calls));
        rate[side][what] = gigabytes / seconds;
      }
    }
    if (round == 0) continue;  // both warm up
    for (int what = 0; what < 2; ++what) {
      for (int side = 0; side < 2; ++side) rates[side][what].push_back(rate[side][what]);
      ratios[what].push_back(rate[1][what] / rate[0][what]);
    }
  }
  for (int what = 0; what < 2; ++what) {
    for (int side = 0; side < 2; ++side) {
      Report(out, fmt::format("{}_{}_{}_gbps_{}", names[side], plane, whats[what], size.name),
             rates[side][what]);
    }
    Report(out, fmt::format("python_{}_{}_of_cpp_{}", plane, whats[what], size.name), ratios[what]);
    const double median = Percentile(ratios[what], 0.5);
    worst = what == 0 ? median : std::min(worst, median);
  }
  return worst;
}

// Of one plane and size in an empty space.
absl::StatusOr<double> Measure(const Arguments& arguments, const std::string& plane,
                               const Size& size, nlohmann::ordered_json& out) {
  MNEMO_ASSIGN_OR_RETURN(BenchSpace space, BenchSpace::Open({.target = arguments.target}));
  MNEMO_ASSIGN_OR_RETURN(const double worst, Compare(arguments, plane, size, out));
  MNEMO_RETURN_IF_ERROR(space.Delete());
  return worst;
}

// The figure without a plane and a size is the worst of all.
absl::StatusOr<nlohmann::ordered_json> Run(const Arguments& arguments) {
  nlohmann::ordered_json out = {{"python_rounds", arguments.rounds}};
  // The first puts find memory that nobody has touched, which takes longer than they do
  // (docs/decisions/0119).
  nlohmann::ordered_json first_fill;
  MNEMO_RETURN_IF_ERROR(Measure(arguments, "registered", kSizes[0], first_fill).status());
  double worst = 0;
  for (const char* const plane : {"registered", "bulk"}) {
    for (const Size& size : kSizes) {
      std::cerr << fmt::format("python_{} {}\n", plane, size.name);
      MNEMO_ASSIGN_OR_RETURN(const double ratio, Measure(arguments, plane, size, out));
      worst = worst == 0 ? ratio : std::min(worst, ratio);
    }
  }
  out["python_of_cpp"] = worst;
  return out;
}

}  // namespace
}  // namespace mnemo::bench

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: bench_python MNEMO_TARGET PYTHON SCRIPT [ROUNDS]\n";
    return 2;
  }
  const auto out = mnemo::bench::Run({.target = argv[1],
                                      .python = argv[2],
                                      .script = argv[3],
                                      .rounds = argc > 4 ? std::stoi(argv[4]) : 5});
  if (!out.ok()) {
    std::cerr << "bench_python: " << out.status().message() << '\n';
    return 1;
  }
  std::cout << out->dump(2) << '\n';
  return 0;
}
