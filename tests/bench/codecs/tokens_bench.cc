// How many tokens L2 and L3 hold in the same bytes with a floor of 4 bits and without: the
// captured chain of a model, put into a real store over and over.
//
// bench_codec_tokens CAPTURE TOKENS FOLDER: CAPTURE is a book of a model of `make capture`,
// TOKENS the block size. Prints flat JSON: for KV in bf16 and in fp16,
// tokens_ratio_4bit_DTYPE, the smaller one of those of L2 and of L3, and each of these;
// and ..._raw, over the same bytes without any codec.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "storage/base/half.h"
#include "storage/base/units.h"
#include "storage/block/block_store.h"
#include "storage/block/space.h"
#include "tests/bench/common/bench_support.h"

namespace mnemo {
namespace {

using Json = nlohmann::ordered_json;

constexpr KeyScope kScope{.tenant = 1, .space = 2};

struct Capture {
  uint32_t layers = 0;
  uint32_t tokens = 0;
  uint32_t heads = 0;
  uint32_t dimension = 0;
  std::string pairing;
  double theta = 0;
  std::vector<float> values[2];  // keys, values: [layer, token, head, dimension]
};

Capture Load(const std::string& folder) {
  std::ifstream file(folder + "/capture.json");
  if (!file) Require(absl::NotFoundError("not there"), folder.c_str());
  const Json facts = Json::parse(file);
  Capture capture{.layers = static_cast<uint32_t>(facts.at("layers").size()),
                  .tokens = facts.at("tokens").get<uint32_t>(),
                  .heads = facts.at("kv_heads").get<uint32_t>(),
                  .dimension = facts.at("dim").get<uint32_t>(),
                  .pairing = facts.at("pairing").get<std::string>(),
                  .theta = facts.at("layers").at(0).at("theta").get<double>()};
  for (const size_t role : {0, 1}) {
    std::vector<float>& values = capture.values[role];
    values.resize(size_t{capture.layers} * capture.tokens * capture.heads * capture.dimension);
    std::ifstream bytes(folder + (role == 0 ? "/k.f32" : "/v.f32"), std::ios::binary);
    bytes.read(reinterpret_cast<char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(float)));
    if (!bytes) Require(absl::NotFoundError("too short"), folder.c_str());
  }
  return capture;
}

// All layers in one group, turned by the base of the first: sizes do not depend on it.
Space SpaceOf(const Capture& capture, uint32_t tokens, DType dtype, uint32_t floor) {
  Space space{.scope = kScope};
  space.spec.name = "captured";
  space.spec.fingerprint.weights_digest = "captured";
  space.spec.tokens_per_block = tokens;
  space.spec.groups = {
      {.name = "full",
       .layers = capture.layers,
       .kv_heads = capture.heads,
       .k_dimension = capture.dimension,
       .v_dimension = capture.dimension,
       .dtype = dtype,
       .rope = RopeFacts{
           .theta = capture.theta,
           .rotary_dimensions = capture.dimension,
           .pairing = capture.pairing == "half" ? RopePairing::kHalf : RopePairing::kInterleaved}}};
  space.spec.policy.floor_bits_per_value = floor;
  Require(ValidateSpace(space.spec), "space");
  return space;
}

// Layer by layer, K before V.
std::string BlockAt(const Capture& capture, uint32_t tokens, uint32_t depth, DType dtype) {
  const size_t run = size_t{tokens} * capture.heads * capture.dimension;
  std::string bytes(run * capture.layers * 2 * 2, '\0');
  char* at = bytes.data();
  for (uint32_t layer = 0; layer < capture.layers; ++layer) {
    for (const std::vector<float>& values : capture.values) {
      const float* const from =
          values.data() + (size_t{layer} * capture.tokens + size_t{depth} * tokens) *
                              capture.heads * capture.dimension;
      for (size_t i = 0; i < run; ++i, at += 2) {
        StoreLittle(at, dtype == DType::kBF16 ? FloatToBfloat(from[i]) : FloatToHalf(from[i]));
      }
    }
  }
  return bytes;
}

class Filler {
 public:
  Filler(const Capture& capture, uint32_t tokens, DType dtype, uint32_t floor,
         const std::string& folder)
      : capture_(capture),
        tokens_(tokens),
        dtype_(dtype),
        space_(std::make_shared<const Space>(SpaceOf(capture, tokens, dtype, floor))),
        files_(MakePosixFileSystem()) {
    std::filesystem::remove_all(folder);
    BlockStoreOptions options{.directory = folder,
                              .l1_bytes = 64 * kMiB,
                              .l2_bytes = 64 * kMiB,
                              .disk_cache_bytes = 64 * kMiB,
                              .l3_bytes = 1024 * kMiB,
                              .eviction_policy = "lru"};
    store_ = Require(BlockStore::Open(options, *files_, clock_, nullptr), "open");
    store_->UseSpaces([this](KeyScope) { return space_; });
  }

  // Until L2 is full, and L3 has more than that.
  void Fill() {
    for (uint64_t chain = 0; chain < 64 && !IsFull(); ++chain) {
      for (uint32_t depth = 0; depth < capture_.tokens / tokens_; ++depth) Put(chain, depth);
      while (store_->MoveStep()) {
      }
    }
    Require(store_->Flush(kScope).status(), "flush");
  }
  // Exact bytes that a byte of the level holds.
  double Holds(Level level) const {
    const LevelFigures figures = store_->Levels()[static_cast<size_t>(level)];
    return static_cast<double>(figures.exact_bytes) / static_cast<double>(figures.stats.used_bytes);
  }
  void Close() { Require(store_->Close(), "close"); }

 private:
  bool IsFull() const {
    const LevelFigures l2 = store_->Levels()[1];
    return static_cast<double>(l2.stats.used_bytes) >
               0.85 * static_cast<double>(l2.stats.capacity_bytes) &&
           store_->Levels()[2].exact_bytes > l2.exact_bytes;
  }
  void Put(uint64_t chain, uint32_t depth) {
    std::string name(16, 'k');
    StoreLittle<uint64_t>(name.data(), chain);
    StoreLittle<uint32_t>(name.data() + 8, depth);
    PartKey key{.scope = kScope, .key = Require(BlockKey::From(name), "key")};
    key.shard = ShardOf(kScope, key.salt, key.key.view());
    const std::string payload = BlockAt(capture_, tokens_, depth, dtype_);
    WriteSpec spec{.payload_bytes = payload.size(),
                   .layout = Require(GeometryOf(space_->spec, PartId{}), "geometry").sections,
                   .depth = depth,
                   .tokens = static_cast<uint16_t>(tokens_)};
    const auto writer = Require(store_->BeginWrite(key, spec), "put");
    Require(writer->Append(AsBytes(payload)), "put");
    Require(writer->Commit().status(), "put");
    // Worth the disk.
    store_->Touch({&key, 1});
    store_->Touch({&key, 1});
  }

  const Capture& capture_;
  const uint32_t tokens_;
  const DType dtype_;
  const std::shared_ptr<const Space> space_;
  const std::unique_ptr<FileSystem> files_;
  SystemClock clock_;
  std::unique_ptr<BlockStore> store_;
};

void Run(const std::string& book, uint32_t tokens, const std::string& folder) {
  const Capture capture = Load(book);
  Json out;
  for (const auto& [dtype, name] : {std::pair(DType::kBF16, "bf16"), {DType::kF16, "fp16"}}) {
    std::map<uint32_t, std::map<Level, double>> holds;
    for (const uint32_t floor : {0u, 4u}) {
      Filler filler(capture, tokens, dtype, floor, folder + "/store");
      filler.Fill();
      for (const Level level : {Level::kL2, Level::kL3}) holds[floor][level] = filler.Holds(level);
      filler.Close();
    }
    const double l2 = holds[4][Level::kL2] / holds[0][Level::kL2];
    const double l3 = holds[4][Level::kL3] / holds[0][Level::kL3];
    out[fmt::format("tokens_ratio_4bit_{}", name)] = std::min(l2, l3);
    out[fmt::format("tokens_ratio_4bit_{}_l2", name)] = l2;
    out[fmt::format("tokens_ratio_4bit_{}_l3", name)] = l3;
    out[fmt::format("tokens_ratio_4bit_{}_raw", name)] =
        std::min(holds[4][Level::kL2], holds[4][Level::kL3]);
  }
  std::filesystem::remove_all(folder + "/store");
  std::printf("%s\n", out.dump(1).c_str());
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: bench_codec_tokens CAPTURE TOKENS FOLDER\n");
    return 2;
  }
  mnemo::Run(argv[1], static_cast<uint32_t>(std::stoul(argv[2])), argv[3]);
  return 0;
}
