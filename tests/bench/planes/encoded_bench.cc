// What a part of 2 MiB costs inline and over a stream of TCP where it lies in 4 bits a value:
// decoded by the daemon, and sent encoded and decoded by the client; in turns, one request
// outstanding, from RAM.
//
//   bench_encoded put MNEMO_TARGET             a space with a floor of 4, its blocks on disk
//   bench_encoded read MNEMO_TARGET [ROUNDS]   of the same data directory, started again
//
// The second prints one flat JSON object.
#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "mnemo/client.h"
#include "storage/base/bytes.h"
#include "storage/base/half.h"
#include "storage/base/status_macros.h"
#include "tests/bench/common/bench_support.h"
#include "tests/bench/planes/rounds.h"

namespace mnemo::bench {
namespace {

constexpr uint32_t kTokens = 256;
constexpr uint32_t kLayers = 8;
constexpr uint32_t kHeads = 4;
constexpr uint32_t kDimension = 64;
constexpr uint64_t kPartBytes = uint64_t{2} * kLayers * kTokens * kHeads * kDimension * 2;
static_assert(kPartBytes == 2 << 20);
constexpr int kCalibrating = 5;  // blocks: 1,024 tokens calibrate the group
constexpr int kCalls = 100;      // in a turn
constexpr char kSpace[] = "bench-encoded";

client::Space Space() {
  client::Space space{.name = kSpace,
                      .fingerprint = {.weights_digest = "bench"},
                      .tokens_per_block = kTokens,
                      .policy = {.floor_bits_per_value = 4}};
  space.groups = {
      {.name = "full",
       .kind = client::GroupKind::kFull,
       .layers = kLayers,
       .kv_heads = kHeads,
       .k_dimension = kDimension,
       .v_dimension = kDimension,
       .dtype = client::DType::kBf16,
       .rope = client::Rope{
           .theta = 1e4, .rotary_dimensions = kDimension, .pairing = client::RopePairing::kHalf}}};
  return space;
}

absl::Status Put(const std::string& target) {
  MNEMO_ASSIGN_OR_RETURN(const auto mnemo, client::Client::Connect({.target = target}));
  MNEMO_RETURN_IF_ERROR(mnemo->spaces().Open(Space()).status());
  std::mt19937_64 random(4);
  std::normal_distribution<float> normal;
  std::vector<uint8_t> payload(kPartBytes);
  for (int i = 0; i <= kCalibrating; ++i) {
    for (size_t at = 0; at < payload.size(); at += 2) {
      StoreLittle<uint16_t>(payload.data() + at, FloatToBfloat(normal(random)));
    }
    const std::string key = i < kCalibrating ? fmt::format("calibrating-{}", i) : "part";
    client::PutRequest request{.space = kSpace};
    // Not the first of its chain, whose first tokens are exact.
    request.parts = {{.key = key, .data = payload, .depth = 1}};
    MNEMO_ASSIGN_OR_RETURN(const auto result, mnemo->blocks().Put(request));
    MNEMO_RETURN_IF_ERROR(result.parts[0].status);
    MNEMO_RETURN_IF_ERROR(mnemo->blocks().Flush(client::SpaceRef(kSpace)).status());
  }
  return absl::OkStatus();
}

struct Way {
  std::string name;
  client::PlaneChoice plane;
  bool encoded;
  std::vector<double> micros = {};  // of a call, by turns
  uint64_t bytes = 0;               // of payload that travelled
};

// The mean time of a call.
absl::StatusOr<double> Turn(client::Client& mnemo, Way& way, std::vector<uint8_t>& into) {
  const std::string_view key = "part";
  const client::Destination to{.memory = into};
  const client::GetRequest request{.space = kSpace,
                                   .keys = {&key, 1},
                                   .destinations = {&to, 1},
                                   .verify = true,
                                   .decode_at_client = way.encoded};
  const auto start = BenchClock::now();
  for (int i = 0; i < kCalls; ++i) {
    MNEMO_ASSIGN_OR_RETURN(const auto result, mnemo.blocks().Get(request, {.plane = way.plane}));
    const client::PartRead& part = result.parts[0];
    MNEMO_RETURN_IF_ERROR(part.status);
    if (!part.fidelity) return absl::InternalError("the part is exact");
    if ((part.bytes_received != 0) != way.encoded) return absl::InternalError("another form");
    way.bytes = way.encoded ? part.bytes_received : part.bytes;
  }
  return Seconds(BenchClock::now() - start) / kCalls * 1e6;
}

absl::Status Read(const std::string& target, int rounds) {
  MNEMO_ASSIGN_OR_RETURN(const auto mnemo, client::Client::Connect({.target = target}));
  Way ways[] = {{"inline_decoded", client::PlaneChoice::kInline, false},
                {"inline_encoded", client::PlaneChoice::kInline, true},
                {"bulk_decoded", client::PlaneChoice::kBulk, false},
                {"bulk_encoded", client::PlaneChoice::kBulk, true}};
  std::vector<uint8_t> into(kPartBytes);
  // The first reads bring it into RAM.
  for (Way& way : ways) MNEMO_RETURN_IF_ERROR(Turn(*mnemo, way, into).status());
  for (int round = 0; round < rounds; ++round) {
    for (Way& way : ways) {
      MNEMO_ASSIGN_OR_RETURN(const double micros, Turn(*mnemo, way, into));
      way.micros.push_back(micros);
    }
  }
  nlohmann::ordered_json out;
  for (const Way& way : ways) {
    out[fmt::format("encoded_{}_bytes_2MiB", way.name)] = way.bytes;
    Report(out, fmt::format("encoded_{}_us_2MiB", way.name), way.micros);
  }
  for (const size_t decoded : {0, 2}) {
    std::vector<double> ratios;
    for (int round = 0; round < rounds; ++round) {
      ratios.push_back(ways[decoded + 1].micros[static_cast<size_t>(round)] /
                       ways[decoded].micros[static_cast<size_t>(round)]);
    }
    Report(out, fmt::format("encoded_{}_over_decoded_2MiB", decoded == 0 ? "inline" : "bulk"),
           ratios);
  }
  std::cout << out.dump(2) << "\n";
  return absl::OkStatus();
}

absl::Status Run(const std::vector<std::string>& arguments) {
  if (arguments.size() == 2 && arguments[0] == "put") return Put(arguments[1]);
  if (arguments.size() >= 2 && arguments[0] == "read") {
    return Read(arguments[1], arguments.size() > 2 ? std::stoi(arguments[2]) : 7);
  }
  return absl::InvalidArgumentError("usage: bench_encoded put|read MNEMO_TARGET [ROUNDS]");
}

}  // namespace
}  // namespace mnemo::bench

int main(int argc, char** argv) {
  const absl::Status status = mnemo::bench::Run({argv + 1, argv + argc});
  if (status.ok()) return 0;
  std::cerr << status.ToString() << "\n";
  return 1;
}
