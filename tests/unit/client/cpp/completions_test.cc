#include "mnemo/completions.h"

#include <poll.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/unit/client/cpp/fake_daemon.h"

namespace mnemo::client {
namespace {

bool IsReadable(const CompletionQueue& queue) {
  pollfd waits{.fd = queue.event_fd(), .events = POLLIN, .revents = 0};
  return ::poll(&waits, 1, 0) == 1;
}
void AwaitReadable(const CompletionQueue& queue) {
  pollfd waits{.fd = queue.event_fd(), .events = POLLIN, .revents = 0};
  while (::poll(&waits, 1, -1) != 1) {
  }
}

class CompletionsTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(queue_, CompletionQueue::Create()); }
  std::unique_ptr<CompletionQueue> queue_;
};

TEST_F(CompletionsTest, IsReadableWhileThereIsSomethingToDrain) {
  EXPECT_FALSE(IsReadable(*queue_));
  EXPECT_TRUE(queue_->Drain().empty());
  queue_->For<MatchResult>(3)(MatchResult{.blocks = 5});
  queue_->For<GetResult>(2)(absl::UnavailableError("gone"));
  EXPECT_TRUE(IsReadable(*queue_));
  const auto ended = queue_->Drain();
  ASSERT_EQ(ended.size(), 2u);
  EXPECT_EQ(ended[0].tag, 3u);
  ASSERT_OK(std::get<absl::StatusOr<MatchResult>>(ended[0].result));
  EXPECT_EQ(std::get<absl::StatusOr<MatchResult>>(ended[0].result)->blocks, 5u);
  EXPECT_EQ(ended[1].tag, 2u);
  EXPECT_TRUE(absl::IsUnavailable(std::get<absl::StatusOr<GetResult>>(ended[1].result).status()));
  EXPECT_FALSE(IsReadable(*queue_));
  EXPECT_TRUE(queue_->Drain().empty());
}

TEST_F(CompletionsTest, EachEndIsDrainedOnceWhoeverDrains) {
  constexpr uint64_t kEach = 500;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (uint64_t i = 0; i < kEach; ++i) {
        queue_->For<PutResult>(t * kEach + i)(PutResult());
      }
    });
  }
  std::vector<int> seen(4 * kEach);
  for (size_t drained = 0; drained < seen.size();) {
    AwaitReadable(*queue_);
    for (const auto& completion : queue_->Drain()) {
      ++seen[completion.tag];
      ++drained;
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(seen, ::testing::Each(1));
  EXPECT_FALSE(IsReadable(*queue_));
}

TEST_F(CompletionsTest, WhatEndsBehindTheQueueIsDropped) {
  const Done<MatchResult> late = queue_->For<MatchResult>(1);
  queue_.reset();
  late(MatchResult());
}

TEST_F(CompletionsTest, CallsOfAClientEndThere) {
  FakeDaemon daemon;
  daemon.blocks.match = [](grpc::ServerContext&, const v1::MatchRequest& request,
                           v1::MatchResponse& response) {
    response.set_blocks(static_cast<uint32_t>(request.keys_size()));
    return grpc::Status::OK;
  };
  const std::unique_ptr<Client> client = ConnectTo(daemon);
  const std::string_view keys[] = {"a", "b", "c"};
  for (uint64_t tag = 1; tag <= 3; ++tag) {
    client->async_blocks().Match({.space = "s", .keys = {keys, tag}},
                                 queue_->For<MatchResult>(tag));
  }
  // One that is not even sent.
  const std::string_view key = "k";
  client->async_blocks().Get({.space = "s", .keys = {&key, 1}}, queue_->For<GetResult>(4));
  std::vector<uint32_t> blocks(5);
  for (int ended = 0; ended < 4;) {
    AwaitReadable(*queue_);
    for (const auto& [tag, result] : queue_->Drain()) {
      ++ended;
      if (tag == 4) {
        EXPECT_TRUE(absl::IsInvalidArgument(std::get<absl::StatusOr<GetResult>>(result).status()));
      } else {
        ASSERT_OK(std::get<absl::StatusOr<MatchResult>>(result));
        blocks[tag] = std::get<absl::StatusOr<MatchResult>>(result)->blocks;
      }
    }
  }
  EXPECT_THAT(blocks, ::testing::ElementsAre(0, 1, 2, 3, 0));
}

}  // namespace
}  // namespace mnemo::client
