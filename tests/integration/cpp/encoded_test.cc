// Parts that come encoded from the real daemon, decoded by the client, on every plane.
#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "storage/base/half.h"
#include "tests/integration/cpp/daemon_test.h"

namespace mnemo::client {
namespace {

using ::testing::HasSubstr;

constexpr size_t kMiB = 1 << 20;
constexpr uint32_t kTokens = 16;
constexpr size_t kCalibrating = 260;  // 4,160 tokens: 4,096 calibrate a group, with axes too
constexpr size_t kBlocks = 16;
constexpr size_t kLayers = 2;
constexpr size_t kTensorBytes = size_t{kTokens} * 3 * 64 * 2;
constexpr size_t kBlockBytes = kLayers * 2 * kTensorBytes;

struct PlaneTaken {
  PlaneChoice choice;
  Plane plane;
};
constexpr PlaneTaken kPlanes[] = {{PlaneChoice::kInline, Plane::kInline},
                                  {PlaneChoice::kFast, Plane::kFast},
                                  {PlaneChoice::kBulk, Plane::kBulk}};

Space ModelSpace(const std::string& name, Layout layout, uint32_t floor_bits) {
  Space space{.name = name,
              .fingerprint = {.weights_digest = "sha256:1"},
              .tokens_per_block = kTokens,
              .policy = {.floor_bits_per_value = floor_bits}};
  space.groups = {{.name = "full",
                   .kind = GroupKind::kFull,
                   .layers = kLayers,
                   .kv_heads = 3,
                   .k_dimension = 64,
                   .v_dimension = 64,
                   .dtype = DType::kF16,
                   .layout = layout}};
  return space;
}

class EncodedTest : public DaemonTest {
 protected:
  EncodedTest() : DaemonTest("256MiB") {
    std::mt19937_64 random(7);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < kBlocks + kCalibrating; ++i) {
      keys_.push_back("block-" + std::to_string(i));
      std::vector<uint8_t>& block = blocks_.emplace_back();
      while (block.size() < kBlockBytes) {
        const uint16_t half = FloatToHalf(normal(random));
        block.push_back(static_cast<uint8_t>(half));
        block.push_back(static_cast<uint8_t>(half >> 8));
      }
    }
  }

  // A daemon on whose disk the blocks lie in the form that the space's floor asks for.
  void Restart(Layout layout, uint32_t floor_bits) {
    memory_.reset();
    daemon_.reset();
    StartDaemon();
    Connect({.target = daemon_->tcp()});
    space_ = "model-" + std::to_string(++spaces_);
    ASSERT_OK(client_->spaces().Open(ModelSpace(space_, layout, floor_bits)));
    // What calibrates the group stays exact at first, and is encoded whenever: it is not read.
    ASSERT_NO_FATAL_FAILURE(PutAndFlush(kBlocks, kCalibrating));
    ASSERT_NO_FATAL_FAILURE(PutAndFlush(0, kBlocks));
    daemon_->Kill();
    daemon_.reset();
    StartDaemon({"--streams-listen=127.0.0.1:0"});
    Connect({.target = daemon_->tcp()});
    ASSERT_OK_AND_ASSIGN(memory_, client_->AllocateShared(16 * kMiB));
  }

  void PutAndFlush(size_t first, size_t count) {
    PutRequest put{.space = space_};
    for (size_t i = first; i < first + count; ++i) {
      put.parts.push_back({.key = keys_[i],
                           .data = blocks_[i],
                           .depth = static_cast<uint32_t>(i - first),
                           .parent = i > first ? std::string_view(keys_[i - 1]) : ""});
    }
    ASSERT_OK_AND_ASSIGN(const PutResult stored, client_->blocks().Put(put));
    for (const PartStored& part : stored.parts) ASSERT_OK(part.status);
    ASSERT_OK(client_->blocks().Flush(SpaceRef(space_)));
  }

  // The first `count` blocks into `into`, one behind the other.
  absl::StatusOr<GetResult> Read(size_t count, MutableBytes into, PlaneChoice plane, bool encoded,
                                 uint32_t first_layer = 0) {
    const std::vector<std::string_view> views = ViewsOf(std::span(keys_).first(count));
    std::vector<Destination> to;
    const size_t bytes = into.size() / count;
    for (size_t i = 0; i < count; ++i) to.push_back({.memory = into.subspan(i * bytes, bytes)});
    return client_->blocks().Get({.space = space_,
                                  .keys = views,
                                  .first_layer = first_layer,
                                  .destinations = to,
                                  .verify = true,
                                  .decode_at_client = encoded},
                                 {.plane = plane});
  }
  MutableBytes Shared(size_t at, size_t size) { return memory_->bytes().subspan(at, size); }

  std::string space_ = "model";
  int spaces_ = 0;
  std::vector<std::string> keys_;
  std::vector<std::vector<uint8_t>> blocks_;
  std::unique_ptr<SharedMemory> memory_;
};

// What a daemon says of one part by one plane, decoded by itself and by its client.
void ExpectSame(const PartRead& decoded, const PartRead& encoded) {
  ASSERT_OK(decoded.status);
  ASSERT_OK(encoded.status);
  EXPECT_EQ(encoded.size, decoded.size);
  EXPECT_EQ(encoded.bytes, decoded.bytes);
  EXPECT_EQ(encoded.digest, decoded.digest);
  EXPECT_EQ(encoded.fidelity, decoded.fidelity);
  EXPECT_EQ(encoded.depth, decoded.depth);
  EXPECT_EQ(decoded.bytes_received, 0u);
}

TEST_F(EncodedTest, EveryPlaneGivesWhatTheDaemonDecodes) {
  // By transform, rotated and progressive codes.
  const std::map<uint32_t, std::string> codecs = {
      {2, "transform2"}, {4, "rotated4"}, {8, "progressive8"}};
  for (const auto& [floor, codec] : codecs) {
    ASSERT_NO_FATAL_FAILURE(Restart(Layout::kLayerMajor, floor));
    const size_t size = kBlocks * kBlockBytes;
    const MutableBytes by_daemon = Shared(0, size);
    ASSERT_OK_AND_ASSIGN(const GetResult decoded,
                         Read(kBlocks, by_daemon, PlaneChoice::kInline, /*encoded=*/false));
    for (const auto& [plane, taken] : kPlanes) {
      const MutableBytes by_client = Shared(8 * kMiB, size);
      std::fill(by_client.begin(), by_client.end(), uint8_t{0});
      ASSERT_OK_AND_ASSIGN(const GetResult encoded,
                           Read(kBlocks, by_client, plane, /*encoded=*/true));
      EXPECT_EQ(encoded.plane, taken);
      ASSERT_EQ(encoded.parts.size(), kBlocks);
      uint64_t received = 0;
      for (size_t i = 0; i < kBlocks; ++i) {
        ExpectSame(decoded.parts[i], encoded.parts[i]);
        ASSERT_TRUE(encoded.parts[i].fidelity.has_value());
        EXPECT_EQ(encoded.parts[i].fidelity->codec, codec);
        EXPECT_GT(encoded.parts[i].bytes_received, 0u);
        received += encoded.parts[i].bytes_received;
      }
      EXPECT_LT(received, size * (floor + 1) / 16);  // four tokens of 256 are exact
      EXPECT_TRUE(std::equal(by_client.begin(), by_client.end(), by_daemon.begin()));
    }
  }
}

TEST_F(EncodedTest, LayersOfEveryLayoutComeEncodedToo) {
  for (const Layout layout : {Layout::kLayerMajor, Layout::kKvMajor}) {
    ASSERT_NO_FATAL_FAILURE(Restart(layout, 4));
    // Each layer at its own place in its part.
    std::vector<uint8_t> by_daemon(4 * kBlockBytes);
    std::vector<uint8_t> by_client(4 * kBlockBytes);
    ASSERT_OK_AND_ASSIGN(const GetResult decoded,
                         Read(4, by_daemon, PlaneChoice::kInline, false, /*first_layer=*/1));
    ASSERT_OK_AND_ASSIGN(const GetResult encoded,
                         Read(4, by_client, PlaneChoice::kInline, true, /*first_layer=*/1));
    for (size_t i = 0; i < 4; ++i) {
      ExpectSame(decoded.parts[i], encoded.parts[i]);
      EXPECT_GT(encoded.parts[i].bytes_received, 0u);
      EXPECT_EQ(encoded.parts[i].bytes, kBlockBytes / 2);
    }
    EXPECT_EQ(by_client, by_daemon);
    EXPECT_NE(by_client, std::vector<uint8_t>(4 * kBlockBytes));
  }
}

TEST_F(EncodedTest, WhatIsExactInRamComesAsItIs) {
  StartDaemon();
  Connect({.target = daemon_->tcp()});
  ASSERT_OK(client_->spaces().Open(ModelSpace(space_, Layout::kLayerMajor, 4)));
  ASSERT_OK(
      client_->blocks().Put({.space = space_, .parts = {{.key = keys_[0], .data = blocks_[0]}}}));
  std::vector<uint8_t> into(kBlockBytes);
  ASSERT_OK_AND_ASSIGN(const GetResult got, Read(1, into, PlaneChoice::kInline, true));
  ASSERT_OK(got.parts[0].status);
  EXPECT_EQ(got.parts[0].bytes_received, 0u);
  EXPECT_FALSE(got.parts[0].fidelity.has_value());
  EXPECT_EQ(into, blocks_[0]);
}

// By streams what is encoded comes into the room itself.
TEST_F(EncodedTest, NothingIsWrittenBehindARoomThatIsTooSmallNorInItInline) {
  ASSERT_NO_FATAL_FAILURE(Restart(Layout::kLayerMajor, 4));
  for (const auto& [plane, taken] : kPlanes) {
    const MutableBytes all = Shared(0, 2 * kBlockBytes);
    std::fill(all.begin(), all.end(), uint8_t{0xA5});
    // Enough for what comes, and not for what that stands for.
    const MutableBytes into = all.first(kBlockBytes - 1);
    ASSERT_OK_AND_ASSIGN(const GetResult got, Read(1, into, plane, true));
    EXPECT_THAT(got.parts[0].status,
                StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("destinations[0]")));
    EXPECT_EQ(got.plane, taken);
    const MutableBytes kept = plane == PlaneChoice::kInline ? all : all.subspan(into.size());
    EXPECT_EQ(std::count(kept.begin(), kept.end(), 0xA5), static_cast<ptrdiff_t>(kept.size()));
  }
}

}  // namespace
}  // namespace mnemo::client
