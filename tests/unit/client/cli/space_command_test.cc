#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/client/cli/run_mnemoctl.h"
#include "tests/unit/client/cpp/fake_daemon.h"

namespace mnemo::cli {
namespace {

using client::FakeDaemon;
using ::testing::HasSubstr;
using ::testing::Not;

class SpaceCommandTest : public ::testing::Test {
 protected:
  SpaceCommandTest() {
    space_.set_id(0xab);
    space_.set_name("llama");
    space_.set_tokens_per_block(16);
    v1::Group& group = *space_.add_groups();
    group.set_name("full");
    group.set_kind(v1::GROUP_KIND_FULL);
    group.set_layers(2);
    space_.add_part_bytes(2048);
    daemon_.spaces.get = [this](const v1::GetSpaceRequest& request,
                                v1::GetSpaceResponse& response) {
      asked_ = request.space();
      *response.mutable_space() = space_;
      response.mutable_usage()->set_parts(1234);
      response.mutable_usage()->set_bytes(5 << 20);
      return grpc::Status::OK;
    };
    daemon_.spaces.remove = [this](const v1::DeleteSpaceRequest& request,
                                   v1::DeleteSpaceResponse& response) {
      ++deletions_;
      asked_ = request.space();
      response.set_parts_deleted(1234);
      return grpc::Status::OK;
    };
  }
  Ran Space(std::vector<std::string> arguments, Around around = {}) {
    arguments.insert(arguments.begin(), "space");
    around.server = daemon_.target();
    return RunMnemoctl(arguments, around);
  }
  // Answers Open with `status`, and remembers what was asked.
  void AnswerOpen(grpc::Status status, bool created = false) {
    daemon_.spaces.open = [this, status, created](const v1::OpenSpaceRequest& request,
                                                  v1::OpenSpaceResponse& response) {
      opened_ = request;
      *response.mutable_space() = space_;
      response.set_created(created);
      return status;
    };
  }

  FakeDaemon daemon_;
  v1::Space space_;
  v1::SpaceRef asked_;
  v1::OpenSpaceRequest opened_;
  int deletions_ = 0;
};

TEST_F(SpaceCommandTest, ListNamesEachSpaceAndItsContents) {
  daemon_.spaces.list = [this](const auto&, v1::ListSpacesResponse& response) {
    *response.add_spaces()->mutable_space() = space_;
    space_.set_name("evil\033[2J");
    *response.add_spaces()->mutable_space() = space_;
    return grpc::Status::OK;
  };
  const Ran ran = Space({"list"});
  EXPECT_EQ(ran.code, ExitCode::kOk);
  EXPECT_THAT(ran.out, HasSubstr("NAME"));
  EXPECT_THAT(ran.out, HasSubstr("16 tokens"));
  EXPECT_THAT(ran.out, HasSubstr("evil\\x1b[2J"));
  EXPECT_THAT(ran.out, Not(HasSubstr("00000000000000ab"))) << "ids are for -o wide";
  EXPECT_THAT(Space({"list", "-o", "wide"}).out, HasSubstr("00000000000000ab"));
  EXPECT_EQ(nlohmann::json::parse(Space({"list", "-o", "json"}).out)[0]["id"], "00000000000000ab");
}

TEST_F(SpaceCommandTest, ShowTakesANameOrAnId) {
  const Ran ran = Space({"show", "llama"});
  EXPECT_EQ(ran.code, ExitCode::kOk);
  EXPECT_EQ(asked_.name(), "llama");
  EXPECT_THAT(ran.out, HasSubstr("holds         1,234 parts, 5 MiB, 0 tokens\n"));
  EXPECT_THAT(ran.out, HasSubstr("2 KiB"));
  Space({"show", "id:ab"});
  EXPECT_EQ(asked_.id(), 0xabu);
  EXPECT_EQ(Space({"show", "id:xyz"}).code, ExitCode::kUsage);
}

TEST_F(SpaceCommandTest, CreateSaysWhetherItWasMade) {
  AnswerOpen(grpc::Status::OK, /*created=*/true);
  const Ran made = Space({"create", "llama", "--opaque", "16"});
  EXPECT_EQ(made.code, ExitCode::kOk);
  EXPECT_EQ(made.out, "00000000000000ab\n");
  EXPECT_EQ(made.err, "space 'llama' created\n");
  EXPECT_EQ(opened_.space().name(), "llama");
  EXPECT_EQ(opened_.space().tokens_per_block(), 16u);
  EXPECT_FALSE(opened_.must_exist());
  AnswerOpen(grpc::Status::OK);
  EXPECT_THAT(Space({"create", "llama", "--opaque", "16"}).err, HasSubstr("was there already"));
}

TEST_F(SpaceCommandTest, ConflictKeepsTheDaemonsWordsAndHasItsOwnCode) {
  AnswerOpen({grpc::StatusCode::FAILED_PRECONDITION, "tokens_per_block is 16, not 32"});
  for (const bool dry_run : {false, true}) {
    std::vector<std::string> arguments = {"create", "llama", "--opaque", "32"};
    if (dry_run) arguments.emplace_back("--dry-run");
    const Ran ran = Space(arguments);
    EXPECT_EQ(ran.code, ExitCode::kConflict);
    EXPECT_EQ(ran.err, "mnemoctl: tokens_per_block is 16, not 32\n");
    EXPECT_EQ(ran.out, "");
  }
}

TEST_F(SpaceCommandTest, DryRunOfCreateAsksForASpaceThatMustExist) {
  AnswerOpen({grpc::StatusCode::NOT_FOUND, "no space"});
  const Ran ran = Space({"create", "llama", "--opaque", "16", "--dry-run"});
  EXPECT_TRUE(opened_.must_exist());
  EXPECT_EQ(ran.code, ExitCode::kOk);
  EXPECT_THAT(ran.out, HasSubstr("block         16 tokens"));
  EXPECT_THAT(ran.out, Not(HasSubstr("created")));
  EXPECT_EQ(ran.err, "space 'llama' would be created; nothing was done: --dry-run\n");
}

TEST_F(SpaceCommandTest, DeleteAsksWithWhatWouldBeLostAndTakesNoForAnAnswer) {
  const Ran no = Space({"delete", "llama"}, {.input = "n\n", .input_is_terminal = true});
  EXPECT_EQ(no.code, ExitCode::kFailure);
  EXPECT_THAT(no.err, HasSubstr("Delete space 'llama' with 1,234 parts, 5 MiB? [y/N] "));
  EXPECT_THAT(no.err, HasSubstr("nothing was deleted"));
  EXPECT_EQ(Space({"delete", "llama"}, {.input = "y\n"}).code, ExitCode::kFailure)
      << "without a terminal nobody was asked";
  EXPECT_EQ(deletions_, 0);
  const Ran yes = Space({"delete", "llama"}, {.input = "y\n", .input_is_terminal = true});
  EXPECT_EQ(yes.code, ExitCode::kOk);
  EXPECT_EQ(yes.out, "1,234 parts deleted\n");
  EXPECT_EQ(deletions_, 1);
}

TEST_F(SpaceCommandTest, DeleteDeletesTheSpaceThatWasShownNotItsName) {
  EXPECT_EQ(Space({"delete", "llama", "-y"}).code, ExitCode::kOk);
  EXPECT_EQ(asked_.id(), 0xabu) << "another of this name may have come since";
}

TEST_F(SpaceCommandTest, DryRunOfDeleteDeletesNothing) {
  const Ran ran = Space({"delete", "llama", "--dry-run", "--yes"});
  EXPECT_EQ(ran.code, ExitCode::kOk);
  EXPECT_EQ(ran.out, "would delete space 'llama' with 1,234 parts, 5 MiB\n");
  EXPECT_THAT(ran.err, HasSubstr("nothing was deleted"));
  const Ran json = Space({"delete", "llama", "--dry-run", "-o", "json"});
  EXPECT_EQ(nlohmann::json::parse(json.out)["parts_to_delete"], 1234);
  EXPECT_EQ(deletions_, 0);
}

}  // namespace
}  // namespace mnemo::cli
