// The C++ client and the real daemon over streams of TCP, with the payload in them.
#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/cpp/daemon_test.h"
#include "tests/support/certificates.h"

namespace mnemo::client {
namespace {

using ::testing::HasSubstr;

constexpr size_t kMiB = 1 << 20;
constexpr CallOptions kByBulk{.plane = PlaneChoice::kBulk};

std::vector<uint8_t> BytesOf(size_t size, uint32_t seed) {
  std::vector<uint8_t> bytes(size);
  uint32_t state = seed * 2654435761u + 1;
  for (uint8_t& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<uint8_t>(state >> 24);
  }
  return bytes;
}

class BulkTest : public DaemonTest {
 protected:
  BulkTest() : DaemonTest("512MiB", kByBulk) {}
  void StartAndConnect() {
    StartDaemon({"--streams-listen=127.0.0.1:0"});
    Connect({.target = daemon_->tcp(), .connections = 2});
  }
};

TEST_F(BulkTest, BytesOfAnyMemoryTravelInTheStream) {
  ASSERT_NO_FATAL_FAILURE(StartAndConnect());
  for (const size_t size : {size_t{1}, size_t{4097}, 3 * kMiB + 5, 20 * kMiB}) {
    const std::string key = std::to_string(size);
    const std::vector<uint8_t> bytes = BytesOf(size, static_cast<uint32_t>(size));
    ASSERT_OK_AND_ASSIGN(const PutResult put, Put(key, bytes));
    EXPECT_EQ(put.plane, Plane::kBulk);
    EXPECT_EQ(put.parts[0].outcome, PutOutcome::kStored);
    EXPECT_EQ(put.parts[0].digest, DigestOf(bytes));
    // With some room more than it has.
    std::vector<uint8_t> into(size + 10);
    ASSERT_OK_AND_ASSIGN(const GetResult got, Get(key, into));
    EXPECT_EQ(got.plane, Plane::kBulk);
    EXPECT_OK(got.parts[0].status);
    EXPECT_EQ(got.parts[0].bytes, size);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), into.begin()));
    ASSERT_OK_AND_ASSIGN(const PutResult again, Put(key, bytes));
    EXPECT_EQ(again.parts[0].outcome, PutOutcome::kAlreadyPresent);
  }
  std::vector<uint8_t> into(10);
  ASSERT_OK_AND_ASSIGN(const GetResult missing, Get("none", into));
  EXPECT_THAT(missing.parts[0].status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
}

TEST_F(BulkTest, AClientChoosesByItself) {
  ASSERT_NO_FATAL_FAILURE(StartAndConnect());
  const std::vector<uint8_t> bytes = BytesOf(kMiB, 1);
  std::vector<uint8_t> into(bytes.size());
  // However busy the machine is, one of them finds the stream open within its two seconds.
  absl::StatusOr<PutResult> put;
  for (int i = 0; !put.ok() || put->plane != Plane::kBulk; ++i) {
    put = Put(std::to_string(i), bytes, {});
    ASSERT_OK(put);
    ASSERT_EQ(put->parts[0].outcome, PutOutcome::kStored);
  }
  ASSERT_OK_AND_ASSIGN(const GetResult got, Get("0", into, {}));
  EXPECT_EQ(got.plane, Plane::kBulk);
  EXPECT_TRUE(into == bytes);
  // Told another way.
  ASSERT_OK_AND_ASSIGN(const GetResult told, Get("0", into, {.plane = PlaneChoice::kInline}));
  EXPECT_EQ(told.plane, Plane::kInline);
  ASSERT_OK_AND_ASSIGN(const auto memory, client_->AllocateShared(kMiB));
  absl::StatusOr<GetResult> shared;
  do {
    shared = Get("0", memory->bytes(), {});
    ASSERT_OK(shared);
  } while (shared->plane != Plane::kFast);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), memory->bytes().begin()));
}

TEST_F(BulkTest, ThreadsShareTheStreamsOfAClient) {
  ASSERT_NO_FATAL_FAILURE(StartAndConnect());
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (uint32_t i = 0; i < 10; ++i) {
        const std::string key = std::to_string(t) + "/" + std::to_string(i);
        const std::vector<uint8_t> bytes = BytesOf(kMiB + 1000 * i, t * 100 + i);
        const auto put = Put(key, bytes);
        ASSERT_OK(put);
        ASSERT_EQ(put->parts[0].outcome, PutOutcome::kStored);
        std::vector<uint8_t> into(bytes.size());
        const auto got = Get(key, into);
        ASSERT_OK(got);
        ASSERT_OK(got->parts[0].status);
        ASSERT_TRUE(into == bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(BulkTest, ADaemonThatHasNoneSaysSo) {
  ASSERT_NO_FATAL_FAILURE(StartDaemon({}));
  ASSERT_NO_FATAL_FAILURE(Connect({.target = daemon_->tcp()}));
  EXPECT_THAT(Put("k", BytesOf(10, 1)).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("over TCP")));
  // By itself a client goes another way.
  ASSERT_OK_AND_ASSIGN(const PutResult put, Put("k", BytesOf(10, 1), {}));
  EXPECT_EQ(put.plane, Plane::kInline);
}

TEST_F(BulkTest, DeadlinesHoldAndTheStreamIsOpenedAgain) {
  ASSERT_NO_FATAL_FAILURE(StartAndConnect());
  const std::vector<uint8_t> bytes = BytesOf(4 * kMiB, 1);
  ASSERT_OK(Put("k", bytes));
  ASSERT_OK(Put("l", bytes));
  std::vector<uint8_t> into(bytes.size());
  daemon_->Freeze();
  CallOptions soon = kByBulk;
  soon.timeout = Millis(50);
  EXPECT_THAT(Get("k", into, soon).status(),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("")));
  EXPECT_THAT(Put("m", bytes, soon).status(),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("")));
  CancelSource cancelled;
  cancelled.Cancel();
  CallOptions never = kByBulk;
  never.cancel = &cancelled;
  EXPECT_FALSE(Get("k", into, never).ok());
  daemon_->Thaw();
  // Once the pause after the failure is over.
  absl::StatusOr<GetResult> again;
  do {
    again = Get("k", into);
  } while (!again.ok());
  EXPECT_EQ(again->plane, Plane::kBulk);
  EXPECT_TRUE(into == bytes);
}

TEST_F(BulkTest, UnderTlsEachEndChecksTheOther) {
  TestAuthority servers("servers");
  TestAuthority clients("clients");
  const TestCertificate server = servers.IssueServer();
  const TestCertificate own = clients.Issue({.common_name = "engine"});
  WriteText(folder_ / "server.pem", server.certificate);
  WriteText(folder_ / "server.key", server.key);
  WriteText(folder_ / "clients.pem", clients.certificate());
  ASSERT_NO_FATAL_FAILURE(StartDaemon({"--streams-listen=127.0.0.1:0",
                                       "--set=tls.certificate=" + (folder_ / "server.pem"),
                                       "--set=tls.key=" + (folder_ / "server.key"),
                                       "--set=tls.client_ca=" + (folder_ / "clients.pem")}));
  const TlsOptions tls{.ca = servers.certificate(), .certificate = own.certificate, .key = own.key};
  ASSERT_NO_FATAL_FAILURE(Connect({.target = daemon_->tcp(), .tls = tls}));
  const std::vector<uint8_t> bytes = BytesOf(20 * kMiB + 3, 1);
  ASSERT_OK_AND_ASSIGN(const PutResult put, Put("k", bytes));
  EXPECT_EQ(put.plane, Plane::kBulk);
  std::vector<uint8_t> into(bytes.size());
  ASSERT_OK_AND_ASSIGN(const GetResult got, Get("k", into));
  EXPECT_EQ(got.plane, Plane::kBulk);
  EXPECT_OK(got.parts[0].status);
  EXPECT_TRUE(into == bytes);
}

}  // namespace
}  // namespace mnemo::client
