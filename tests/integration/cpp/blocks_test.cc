// The C++ client against the real daemon.
#include <fmt/format.h>
#include <grpc/grpc.h>

#include <random>
#include <string>
#include <thread>
#include <vector>

#include "mnemo/client.h"
#include "mnemo/engine.h"
#include "storage/base/bytes.h"
#include "tests/support/daemon/daemon_process.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

// Four layers of 16 KiB of K and as much of V: 128 KiB a part.
Space FullSpace(const std::string& name) {
  Space space{.name = name, .tokens_per_block = 16};
  space.fingerprint.weights_digest = "sha256:test";
  space.groups = {{.name = "attention",
                   .kind = GroupKind::kFull,
                   .layers = 4,
                   .kv_heads = 8,
                   .k_dimension = 64,
                   .v_dimension = 64,
                   .dtype = DType::kF16}};
  return space;
}

Space OpaqueSpace(const std::string& name) {
  Space space{.name = name, .tokens_per_block = 256};
  space.groups = {{.name = "bytes", .kind = GroupKind::kOpaque, .layers = 1}};
  return space;
}

std::vector<uint8_t> RandomBytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

class BlocksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto daemon = DaemonProcess::Start(folder_.path());
    ASSERT_OK(daemon);
    daemon_ = *std::move(daemon);
    Connect(daemon_->tcp());
  }

  void Connect(const std::string& target) {
    auto client = Client::Connect({.target = target});
    ASSERT_OK(client);
    client_ = *std::move(client);
  }

  uint64_t Open(const Space& space) {
    const auto opened = client_->spaces().Open(space);
    EXPECT_OK(opened);
    return opened.ok() ? opened->space.id : 0;
  }

  PutOutcome PutOne(uint64_t space, const std::string& key, Bytes data,
                    Durability durability = Durability::kDefault) {
    const auto result = client_->blocks().Put(
        {.space = space, .parts = {{.key = key, .data = data}}, .durability = durability});
    EXPECT_OK(result);
    return result.ok() ? result->parts[0].outcome : PutOutcome::kFailed;
  }

  // The part's bytes, or its error.
  absl::StatusOr<std::vector<uint8_t>> GetOne(uint64_t space, std::string_view key, size_t size) {
    std::vector<uint8_t> memory(size);
    const Destination to{.memory = memory};
    const auto result = client_->blocks().Get(
        {.space = space, .keys = {&key, 1}, .destinations = {&to, 1}, .verify = true});
    if (!result.ok()) return result.status();
    if (!result->parts[0].status.ok()) return result->parts[0].status;
    return memory;
  }

  TempDir folder_;
  std::unique_ptr<DaemonProcess> daemon_;
  std::unique_ptr<Client> client_;
};

TEST_F(BlocksTest, WhatIsPutComesBackByteForByteOfAnySize) {
  const uint64_t space = Open(OpaqueSpace("sizes"));
  for (const size_t size : {size_t{1}, size_t{4095}, kMiB - 1, kMiB, kMiB + 1, 9 * kMiB + 3}) {
    const std::string key = fmt::format("key-{}", size);
    const std::vector<uint8_t> bytes = RandomBytes(size, static_cast<uint32_t>(size));
    EXPECT_EQ(PutOne(space, key, bytes), PutOutcome::kStored) << size;
    ASSERT_OK_AND_ASSIGN(const auto read, GetOne(space, key, size));
    EXPECT_EQ(read, bytes) << size;
  }
}

TEST_F(BlocksTest, PayloadThatIsBorrowedArrivesAsWell) {
  const uint64_t space = Open(OpaqueSpace("borrowed"));
  const std::vector<uint8_t> bytes = RandomBytes(20 * kMiB, 1);
  ASSERT_OK_AND_ASSIGN(
      const auto result,
      client_->blocks().Put(
          {.space = space, .parts = {{.key = "k", .data = bytes}}, .borrow_payload = true}));
  EXPECT_EQ(result.parts[0].outcome, PutOutcome::kStored);
  EXPECT_EQ(result.parts[0].digest, DigestOf(bytes));
  ASSERT_OK_AND_ASSIGN(const auto read, GetOne(space, "k", bytes.size()));
  EXPECT_EQ(read, bytes);
}

TEST_F(BlocksTest, TheUnixSocketServesTheSame) {
  const uint64_t space = Open(OpaqueSpace("socket"));
  const std::vector<uint8_t> bytes = RandomBytes(2 * kMiB, 2);
  EXPECT_EQ(PutOne(space, "k", bytes), PutOutcome::kStored);
  Connect(daemon_->unix_socket());
  ASSERT_OK_AND_ASSIGN(const auto read, GetOne(space, "k", bytes.size()));
  EXPECT_EQ(read, bytes);
}

TEST_F(BlocksTest, TheSameBytesArePresentOtherBytesAreAConflict) {
  const uint64_t space = Open(OpaqueSpace("twice"));
  const std::vector<uint8_t> first = RandomBytes(3 * kMiB, 3);
  const std::vector<uint8_t> second = RandomBytes(3 * kMiB, 4);
  EXPECT_EQ(PutOne(space, "k", first), PutOutcome::kStored);
  EXPECT_EQ(PutOne(space, "k", first), PutOutcome::kAlreadyPresent);
  EXPECT_EQ(PutOne(space, "k", second), PutOutcome::kConflict);
  ASSERT_OK_AND_ASSIGN(const auto read, GetOne(space, "k", first.size()));
  EXPECT_EQ(read, first);
}

TEST_F(BlocksTest, OneMissingPartFailsAlone) {
  const uint64_t space = Open(OpaqueSpace("missing"));
  const std::vector<uint8_t> bytes = RandomBytes(1000, 5);
  EXPECT_EQ(PutOne(space, "here", bytes), PutOutcome::kStored);
  std::vector<uint8_t> a(1000), b(1000);
  const std::string_view keys[] = {"gone", "here"};
  const Destination to[] = {{.memory = a}, {.memory = b}};
  ASSERT_OK_AND_ASSIGN(const auto result,
                       client_->blocks().Get({.space = space, .keys = keys, .destinations = to}));
  EXPECT_THAT(result.parts[0].status, StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(result.parts[1].status);
  EXPECT_EQ(b, bytes);
}

TEST_F(BlocksTest, LayersComeInTheOrderAndRangeThatWereAskedFor) {
  const uint64_t space = Open(FullSpace("layers"));
  constexpr size_t kPart = 128 << 10;
  constexpr size_t kLayer = kPart / 4;
  const std::vector<uint8_t> a = RandomBytes(kPart, 6), b = RandomBytes(kPart, 7);
  EXPECT_EQ(PutOne(space, "a", a), PutOutcome::kStored);
  EXPECT_EQ(PutOne(space, "b", b), PutOutcome::kStored);

  const std::string_view keys[] = {"a", "b"};
  std::vector<uint8_t> all_a(kPart), all_b(kPart);
  const Destination whole[] = {{.memory = all_a}, {.memory = all_b}};
  std::vector<size_t> layers;
  ASSERT_OK_AND_ASSIGN(const auto by_layer,
                       client_->blocks().Get({.space = space,
                                              .keys = keys,
                                              .order = ReadOrder::kLayerMajor,
                                              .destinations = whole,
                                              .verify = true,
                                              .on_data = [&](size_t, uint64_t offset, uint64_t) {
                                                layers.push_back(offset / kLayer);
                                              }}));
  EXPECT_OK(by_layer.parts[0].status);
  EXPECT_OK(by_layer.parts[1].status);
  EXPECT_EQ(all_a, a);
  EXPECT_EQ(all_b, b);
  EXPECT_TRUE(std::is_sorted(layers.begin(), layers.end())) << "layer 0 of all parts first";

  std::vector<uint8_t> range(2 * kLayer);
  const Destination to{.memory = range, .part_offset = kLayer};
  ASSERT_OK_AND_ASSIGN(const auto part, client_->blocks().Get({.space = space,
                                                               .keys = std::span(keys, 1),
                                                               .first_layer = 1,
                                                               .layer_count = 2,
                                                               .destinations = {&to, 1}}));
  ASSERT_OK(part.parts[0].status);
  EXPECT_EQ(part.parts[0].bytes, 2 * kLayer);
  EXPECT_EQ(range, std::vector<uint8_t>(a.begin() + kLayer, a.begin() + 3 * kLayer));
}

TEST_F(BlocksTest, AMatchEndsAtTheFirstBlockThatIsNotThere) {
  const uint64_t space = Open(OpaqueSpace("chain"));
  const std::vector<uint8_t> bytes = RandomBytes(100, 8);
  for (const char* key : {"c0", "c1", "c3"}) {
    EXPECT_EQ(PutOne(space, key, bytes), PutOutcome::kStored);
  }
  const std::string_view keys[] = {"c0", "c1", "c2", "c3"};
  ASSERT_OK_AND_ASSIGN(const auto match,
                       client_->blocks().Match(
                           {.space = space, .keys = keys, .lease_ms = 1000, .want_bitmap = true}));
  EXPECT_EQ(match.blocks, 2u);
  EXPECT_EQ(match.tokens, 512u);
  EXPECT_EQ(match.fetch_bytes, 200u);
  EXPECT_THAT(match.present, ElementsAre(true, true, false, true));
  ASSERT_NE(match.lease, 0u);
  EXPECT_OK(client_->blocks().Renew(match.lease, 2000));
  EXPECT_OK(client_->blocks().Release(match.lease));
  EXPECT_THAT(client_->blocks().Release(match.lease), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(BlocksTest, AnOfferReservesForItsPut) {
  const uint64_t space = Open(OpaqueSpace("offer"));
  const std::vector<uint8_t> bytes = RandomBytes(5000, 9);
  ASSERT_OK_AND_ASSIGN(
      const auto offer,
      client_->blocks().Offer({.space = space, .parts = {{.key = "k", .size = bytes.size()}}}));
  EXPECT_EQ(offer.verdicts[0].verdict, Verdict::kWant);
  ASSERT_OK_AND_ASSIGN(
      const auto other,
      client_->blocks().Offer({.space = space, .parts = {{.key = "k", .size = bytes.size()}}}));
  EXPECT_EQ(other.verdicts[0].verdict, Verdict::kPending);
  EXPECT_EQ(PutOne(space, "k", bytes), PutOutcome::kPending) << "it is another's to write";
  ASSERT_OK_AND_ASSIGN(const auto put,
                       client_->blocks().Put({.space = space,
                                              .parts = {{.key = "k", .data = bytes}},
                                              .reservation = offer.reservation}));
  EXPECT_EQ(put.parts[0].outcome, PutOutcome::kStored);
}

TEST_F(BlocksTest, BlocksAreListedDescribedTouchedPinnedAndDeleted) {
  const uint64_t space = Open(OpaqueSpace("manage"));
  const std::vector<uint8_t> bytes = RandomBytes(3000, 10);
  for (const char* key : {"m0", "m1"}) EXPECT_EQ(PutOne(space, key, bytes), PutOutcome::kStored);
  const std::string_view keys[] = {"m0", "m1", "m2"};
  const KeysRequest all{.space = space, .keys = keys};

  ASSERT_OK_AND_ASSIGN(const auto found, client_->blocks().Touch(all));
  EXPECT_EQ(found, 2u);
  ASSERT_OK_AND_ASSIGN(const auto pinned, client_->blocks().Pin(all));
  EXPECT_EQ(pinned.parts_pinned, 2u);
  EXPECT_THAT(pinned.missing, ElementsAre(2));
  ASSERT_OK_AND_ASSIGN(const auto described, client_->blocks().Describe(all));
  ASSERT_EQ(described.size(), 2u);
  EXPECT_EQ(described[0].key, "m0");
  EXPECT_EQ(described[0].digest, DigestOf(bytes));
  EXPECT_TRUE(described[0].pinned);
  EXPECT_TRUE(described[0].on_disk) << "a pin is on stable storage";
  ASSERT_OK_AND_ASSIGN(const auto unpinned, client_->blocks().Unpin(all));
  EXPECT_EQ(unpinned, 2u);
  ASSERT_OK_AND_ASSIGN(const auto page, client_->blocks().List({.space = space, .page_size = 1}));
  ASSERT_EQ(page.parts.size(), 1u);
  EXPECT_FALSE(page.next_page_token.empty());
  ASSERT_OK_AND_ASSIGN(const auto deleted,
                       client_->blocks().Delete({.space = space, .keys = std::span(keys, 1)}));
  EXPECT_EQ(deleted, 1u);
  EXPECT_THAT(GetOne(space, "m0", bytes.size()), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(BlocksTest, AWatchShowsASnapshotAndThenChanges) {
  const uint64_t space = Open(OpaqueSpace("watch"));
  const std::vector<uint8_t> bytes = RandomBytes(10, 11);
  EXPECT_EQ(PutOne(space, "before", bytes), PutOutcome::kStored);
  ASSERT_OK_AND_ASSIGN(const auto watch, client_->blocks().Watch(space));
  std::vector<std::string> stored;
  bool snapshot_ended = false;
  while (stored.size() < 2) {
    ASSERT_OK_AND_ASSIGN(const auto events, watch->Next(Millis(20'000)));
    for (const BlockEvent& event : events) {
      if (event.kind == BlockEventKind::kStored) stored.push_back(event.key);
      if (event.kind != BlockEventKind::kSnapshotEnd) continue;
      snapshot_ended = true;
      EXPECT_EQ(PutOne(space, "after", bytes), PutOutcome::kStored);
    }
  }
  EXPECT_TRUE(snapshot_ended);
  EXPECT_THAT(stored, ElementsAre("before", "after"));
}

TEST_F(BlocksTest, BadInputNamesTheFieldAndItsRange) {
  const uint64_t space = Open(FullSpace("strict"));
  const std::vector<uint8_t> short_part = RandomBytes(10, 12);
  const auto put =
      client_->blocks().Put({.space = space, .parts = {{.key = "k", .data = short_part}}});
  const absl::Status wrong_size = put.ok() ? put->parts[0].status : put.status();
  EXPECT_THAT(wrong_size, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("131072")));

  const std::string long_key(65, 'k');
  const std::string_view keys[] = {long_key};
  EXPECT_THAT(client_->blocks().Match({.space = space, .keys = keys}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("64")));
  EXPECT_THAT(client_->blocks().Match({.space = "no-such-space", .keys = keys}).status().code(),
              ::testing::AnyOf(absl::StatusCode::kNotFound, absl::StatusCode::kInvalidArgument));

  Space other = FullSpace("strict");
  other.tokens_per_block = 32;
  EXPECT_THAT(client_->spaces().Open(other),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("tokens_per_block")));
}

TEST_F(BlocksTest, EightWorkersThatOpenASpaceAtOnceGetTheSame) {
  std::vector<uint64_t> ids(8);
  std::vector<std::thread> workers;
  for (uint64_t& id : ids) {
    workers.emplace_back([&] { id = Open(FullSpace("shared")); });
  }
  for (std::thread& worker : workers) worker.join();
  EXPECT_THAT(ids, ::testing::Each(ids[0]));
  EXPECT_NE(ids[0], 0u);
}

TEST_F(BlocksTest, WhatWasAcknowledgedInSyncSurvivesKill9) {
  const uint64_t space = Open(OpaqueSpace("durable"));
  const std::vector<uint8_t> bytes = RandomBytes(2 * kMiB, 13);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(PutOne(space, fmt::format("k{}", i), bytes, Durability::kSync), PutOutcome::kStored);
  }
  daemon_->Kill();
  auto again = DaemonProcess::Start(folder_.path());
  ASSERT_OK(again);
  daemon_ = *std::move(again);
  Connect(daemon_->tcp());
  EXPECT_EQ(Open(OpaqueSpace("durable")), space);
  for (int i = 0; i < 4; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto read, GetOne(space, fmt::format("k{}", i), bytes.size()));
    EXPECT_EQ(read, bytes);
  }
}

TEST_F(BlocksTest, AFrozenDaemonIsAMissWithinTheDeadline) {
  const uint64_t space = Open(OpaqueSpace("frozen"));
  Engine engine(*client_, {.lookup_timeout = Millis(100), .transfer_timeout = Millis(200)});
  const std::vector<uint8_t> bytes = RandomBytes(16 * kMiB, 14);
  const std::string_view keys[] = {"k"};
  daemon_->Freeze();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(engine.Match({.space = space, .keys = keys}).blocks, 0u);
  EXPECT_THAT(engine.Put({.space = space, .parts = {{.key = "k", .data = bytes}}}),
              ElementsAre(false));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  daemon_->Thaw();
  EXPECT_EQ(engine.stats().failed, 2u);
}

TEST_F(BlocksTest, AClientThatGoesDoesNotWaitForGrpcToEnd) {
  client_.reset();
  EXPECT_TRUE(grpc_is_initialized());
}

TEST_F(BlocksTest, ADaemonThatStopsEndsWellAndCallsFailUnavailable) {
  const uint64_t space = Open(OpaqueSpace("stop"));
  EXPECT_EQ(daemon_->Stop(), 0);
  const std::string_view keys[] = {"k"};
  EXPECT_THAT(client_->blocks().Match({.space = space, .keys = keys}),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(BlocksTest, OperatorsSeeStatusLevelsTiersPlacementAndConfiguration) {
  const uint64_t space = Open(OpaqueSpace("admin"));
  const std::vector<uint8_t> bytes = RandomBytes(10'000, 15);
  EXPECT_EQ(PutOne(space, "k", bytes), PutOutcome::kStored);
  ASSERT_OK_AND_ASSIGN(const auto status, client_->admin().GetNodeStatus());
  EXPECT_TRUE(status.ready);
  EXPECT_EQ(status.parts, 1u);
  ASSERT_OK_AND_ASSIGN(const auto levels, client_->admin().ListLevels());
  EXPECT_EQ(levels.size(), 4u);
  ASSERT_OK_AND_ASSIGN(const auto tiers, client_->admin().ListTiers());
  EXPECT_EQ(tiers.size(), 12u);
  ASSERT_OK_AND_ASSIGN(const auto placements,
                       client_->admin().Explain({.space = space, .key = "k"}));
  ASSERT_EQ(placements.size(), 1u);
  EXPECT_EQ(placements[0].part.size, bytes.size());
  EXPECT_FALSE(placements[0].rule.empty());
  ASSERT_OK_AND_ASSIGN(const auto entries, client_->admin().GetConfig());
  const auto total = std::find_if(entries.begin(), entries.end(),
                                  [](const ConfigEntry& e) { return e.key == "memory.total"; });
  ASSERT_NE(total, entries.end());
  EXPECT_EQ(total->origin, "flag");
}

}  // namespace
}  // namespace mnemo::client
