#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <nlohmann/json.hpp>

#include "tests/unit/client/cli/run_mnemoctl.h"
#include "tests/unit/client/cpp/fake_daemon.h"

namespace mnemo::cli {
namespace {

using client::FakeDaemon;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class StatusCommandTest : public ::testing::Test {
 protected:
  StatusCommandTest() {
    status_.set_node_id("b1c3");
    status_.set_version("0.1.0");
    status_.set_ready(true);
    status_.set_parts(12345);
    status_.set_spaces(2);
    status_.add_addresses("grpc=somewhere");
    status_.set_context_l3_bytes(24 << 20);
    status_.set_context_l3_capacity_bytes(32 << 20);
    status_.set_context_archive_bytes(5 << 20);
    status_.set_contexts_waiting(1234);
    daemon_.admin.status = [this](v1::GetNodeStatusResponse& response) {
      response = status_;
      return answer_;
    };
  }
  Ran Status(std::vector<std::string> more = {}, bool colour = false) {
    more.insert(more.begin(), "status");
    return RunMnemoctl(more, {.server = daemon_.target(), .colour = colour});
  }

  FakeDaemon daemon_;
  v1::GetNodeStatusResponse status_;
  grpc::Status answer_;
};

TEST_F(StatusCommandTest, HealthyNodeIsZero) {
  const Ran ran = Status();
  EXPECT_EQ(ran.code, ExitCode::kOk);
  EXPECT_THAT(ran.out, HasSubstr("state     ready, up "));
  EXPECT_THAT(ran.out, HasSubstr("holds     12,345 parts in 2 spaces\n"));
  EXPECT_THAT(ran.out, HasSubstr("contexts  24 MiB of 32 MiB at L3, 5 MiB in the archive; 1,234 "
                                 "wait for summaries\n"));
  EXPECT_THAT(ran.out, HasSubstr("listens   grpc=somewhere\n"));
  EXPECT_THAT(ran.out, Not(HasSubstr("problem")));
  EXPECT_THAT(ran.out, Not(HasSubstr("\033")));
  EXPECT_EQ(ran.err, "");
}

TEST_F(StatusCommandTest, NotReadyIsUnhealthy) {
  status_.set_ready(false);
  const Ran ran = Status();
  EXPECT_EQ(ran.code, ExitCode::kUnhealthy);
  EXPECT_THAT(ran.out, HasSubstr("NOT READY"));
}

TEST_F(StatusCommandTest, ProblemsAreUnhealthyThoughItServes) {
  status_.add_problems("disk is full\033[2J");
  const Ran ran = Status();
  EXPECT_EQ(ran.code, ExitCode::kUnhealthy);
  EXPECT_THAT(ran.out, HasSubstr("problem   disk is full\\x1b[2J\n"));
}

TEST_F(StatusCommandTest, InsecureIsSaidAloud) {
  status_.set_insecure(true);
  EXPECT_THAT(Status().out, HasSubstr("INSECURE"));
  EXPECT_EQ(Status().code, ExitCode::kOk) << "the operator asked for it";
}

TEST_F(StatusCommandTest, ColoursWhatIsGoodAndBadIfItMay) {
  EXPECT_THAT(Status({}, true).out, HasSubstr("\033[32mready\033[0m"));
  status_.set_ready(false);
  status_.add_problems("disk is full");
  const Ran ran = Status({}, true);
  EXPECT_THAT(ran.out, HasSubstr("\033[31mNOT READY\033[0m"));
  EXPECT_THAT(ran.out, HasSubstr("\033[31mdisk is full\033[0m"));
  EXPECT_THAT(Status({"-o", "json"}, true).out, Not(HasSubstr("\033")));
}

TEST_F(StatusCommandTest, JsonHoldsEveryField) {
  status_.add_problems("p");
  const auto json = nlohmann::json::parse(Status({"-o", "json"}).out);
  EXPECT_EQ(json["node_id"], "b1c3");
  EXPECT_EQ(json["parts"], 12345);
  EXPECT_EQ(json["ready"], true);
  EXPECT_EQ(json["problems"], std::vector<std::string>{"p"});
  EXPECT_EQ(json["context_archive_bytes"], 5 << 20);
  EXPECT_EQ(json["contexts_waiting"], 1234);
  EXPECT_EQ(json.size(), 20u);
}

// What the daemon answers becomes the exit code, and its words the message.
TEST_F(StatusCommandTest, RefusalsKeepTheirCodeAndMessage) {
  const std::pair<grpc::StatusCode, ExitCode> cases[] = {
      {grpc::StatusCode::PERMISSION_DENIED, ExitCode::kNotPermitted},
      {grpc::StatusCode::UNAUTHENTICATED, ExitCode::kNotPermitted},
      {grpc::StatusCode::NOT_FOUND, ExitCode::kNotFound},
      {grpc::StatusCode::INTERNAL, ExitCode::kFailure},
      {grpc::StatusCode::DEADLINE_EXCEEDED, ExitCode::kUnreachable}};
  for (const auto& [code, expected] : cases) {
    answer_ = grpc::Status(code, "because\nof that");
    const Ran ran = Status();
    EXPECT_EQ(ran.code, expected) << code;
    EXPECT_THAT(ran.err, StartsWith("mnemoctl: because\\x0aof that"));
    EXPECT_EQ(ran.out, "");
  }
}

TEST_F(StatusCommandTest, TimeoutEndsACallThatIsNotAnswered) {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  daemon_.admin.status = [released](v1::GetNodeStatusResponse&) {
    released.wait();
    return grpc::Status::OK;
  };
  EXPECT_EQ(Status({"--timeout", "50ms"}).code, ExitCode::kUnreachable);
  release.set_value();
}

}  // namespace
}  // namespace mnemo::cli
