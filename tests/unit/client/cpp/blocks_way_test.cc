// Calls that look for a stream first and go by gRPC.
#include <chrono>
#include <string_view>
#include <thread>
#include <vector>

#include "mnemo/client.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/client/cpp/fake_daemon.h"

namespace mnemo::client {
namespace {

using ::testing::HasSubstr;

// What looking for a stream took is no longer there for gRPC.
TEST(BlocksWayTest, ACallThatGoesByGrpcInTheEndHasOneDeadline) {
  FakeDaemon daemon;
  constexpr std::chrono::milliseconds kTimeout(9000);
  constexpr std::chrono::milliseconds kTaken(500);
  daemon.streams.open = [&](v1::OpenStreamResponse&) {
    const auto until = std::chrono::steady_clock::now() + kTaken;
    while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "none here");
  };
  std::chrono::system_clock::duration left{0};
  daemon.blocks.get = [&](grpc::ServerContext& context, const v1::GetRequest&,
                          FakeBlocks::GetWriter&) {
    left = context.deadline() - std::chrono::system_clock::now();
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "enough");
  };
  ASSERT_OK_AND_ASSIGN(const auto client, Client::Connect({.target = daemon.target()}));
  const std::string_view key = "k";
  std::vector<uint8_t> memory(16);
  const Destination to{.memory = memory};
  EXPECT_THAT(
      client->blocks()
          .Get({.space = "s", .keys = {&key, 1}, .destinations = {&to, 1}}, {.timeout = kTimeout})
          .status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("enough")));
  EXPECT_GT(left, std::chrono::milliseconds(0));
  // gRPC rounds to 10 ms.
  EXPECT_LE(left, kTimeout - kTaken + std::chrono::milliseconds(20));
}

}  // namespace
}  // namespace mnemo::client
