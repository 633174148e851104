#include "client/cli/context_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/client/cli/run_mnemoctl.h"
#include "tests/unit/client/cpp/fake_daemon.h"

namespace mnemo::cli {
namespace {

using client::FakeDaemon;
using ::testing::HasSubstr;

class ContextCommandTest : public ::testing::Test {
 protected:
  ContextCommandTest() {
    daemon_.contexts.describe = [this](const v1::DescribeContextRequest& request,
                                       v1::DescribeContextResponse& response) {
      asked_ = request.context();
      v1::Context& context = *response.mutable_context();
      context.set_id(0xab);
      context.set_name("genesis");
      context.set_dimension(4);
      context.set_tokens(50'000);
      context.set_metric(v1::METRIC_COSINE);
      v1::ContextRun& run = *response.add_runs();
      run.set_count(50'000);
      run.set_level(v1::LEVEL_L3);
      run.set_index("flat");
      v1::LevelShare& share = *response.add_levels();
      share.set_level(v1::LEVEL_L3);
      share.set_tokens(50'000);
      share.set_bytes(1 << 20);
      for (const auto& [resolution, count] : {std::pair(128, 390), std::pair(512, 97)}) {
        v1::SummaryShare& summaries = *response.add_summary_shares();
        summaries.set_resolution(resolution);
        summaries.set_count(count);
      }
      return grpc::Status::OK;
    };
    daemon_.contexts.remove = [this](const v1::DeleteContextRequest& request,
                                     v1::DeleteContextResponse& response) {
      deleted_ = request;
      ++deletions_;
      response.set_tokens_deleted(50'000);
      return grpc::Status::OK;
    };
  }
  Ran Context(std::vector<std::string> arguments, Around around = {}) {
    arguments.insert(arguments.begin(), "context");
    around.server = daemon_.target();
    return RunMnemoctl(arguments, around);
  }

  FakeDaemon daemon_;
  v1::ContextRef asked_;
  v1::DeleteContextRequest deleted_;
  int deletions_ = 0;
};

TEST_F(ContextCommandTest, ListAsksForLabelsAndShowsEachContext) {
  v1::ListContextsRequest asked;
  daemon_.contexts.list = [&](const v1::ListContextsRequest& request,
                              v1::ListContextsResponse& response) {
    asked = request;
    v1::Context& context = *response.add_contexts();
    context.set_name("gene\x1bsis");
    context.set_tokens(1234);
    context.set_dimension(576);
    v1::Label& label = *context.add_labels();
    label.set_key("user");
    label.set_value("ann");
    return grpc::Status::OK;
  };
  const Ran ran = Context({"list", "-l", "user=ann"});
  EXPECT_EQ(ran.code, ExitCode::kOk) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("gene\\x1bsis"));
  EXPECT_THAT(ran.out, HasSubstr("1,234"));
  EXPECT_THAT(ran.out, HasSubstr("user=ann"));
  ASSERT_EQ(asked.labels_size(), 1);
  EXPECT_EQ(asked.labels(0).key(), "user");
  EXPECT_EQ(asked.labels(0).value(), "ann");
  EXPECT_THAT(Context({"list", "-l", "user"}).err, HasSubstr("it must be KEY=VALUE"));
}

TEST_F(ContextCommandTest, ShowDrawsWhatLiesWhere) {
  const Ran ran = Context({"show", "id:ab"});
  EXPECT_EQ(ran.code, ExitCode::kOk) << ran.err;
  EXPECT_EQ(asked_.id(), 0xabu);
  EXPECT_THAT(ran.out, HasSubstr("50,000"));
  EXPECT_THAT(ran.out, HasSubstr("level  |" + std::string(64, '3') + "|"));
  EXPECT_THAT(ran.out, HasSubstr("index  |" + std::string(64, 'f') + "|"));
  const auto json = nlohmann::json::parse(Context({"show", "genesis", "-o", "json"}).out);
  EXPECT_EQ(json["tokens"], 50'000);
  EXPECT_THAT(ran.out, HasSubstr("390 of 128 tokens, 97 of 512 tokens\n"));
  EXPECT_EQ(json["summaries"], nlohmann::json::parse(R"({"128": 390, "512": 97})"));
  EXPECT_EQ(json["runs"][0]["level"], json["levels"][0]["level"]);
}

TEST_F(ContextCommandTest, DeleteAsksFirstAndDeletesById) {
  EXPECT_EQ(Context({"delete", "genesis", "--dry-run"}).code, ExitCode::kOk);
  EXPECT_EQ(Context({"delete", "genesis"}).code, ExitCode::kFailure);
  EXPECT_EQ(deletions_, 0);
  const Ran ran = Context({"delete", "genesis", "--yes", "--wait"});
  EXPECT_EQ(ran.code, ExitCode::kOk) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("50,000 tokens deleted"));
  EXPECT_EQ(deletions_, 1);
  EXPECT_EQ(deleted_.context().id(), 0xabu);
  EXPECT_TRUE(deleted_.wait());
}

TEST_F(ContextCommandTest, SearchNearARangeAsksForItsMeanFirst) {
  v1::SummarizeRequest summarized;
  v1::SearchRequest searched;
  daemon_.contexts.summarize = [&](const v1::SummarizeRequest& request,
                                   v1::SummarizeResponse& response) {
    summarized = request;
    const float mean[] = {1, 2, 3, 4};
    response.mutable_summary()->set_mean(std::string(reinterpret_cast<const char*>(mean), 16));
    return grpc::Status::OK;
  };
  daemon_.contexts.search = [&](const v1::SearchRequest& request, v1::SearchResponse& response) {
    searched = request;
    v1::SearchHit& hit = *response.add_results()->add_hits();
    hit.set_position(4321);
    hit.set_score(0.875F);
    hit.set_level(v1::LEVEL_L1);
    hit.mutable_payload()->set_data("In the beginning");
    return grpc::Status::OK;
  };
  const Ran ran = Context({"search", "genesis", "--at", "100:20", "-k", "3", "--payloads"});
  EXPECT_EQ(ran.code, ExitCode::kOk) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("4,321"));
  EXPECT_THAT(ran.out, HasSubstr("0.8750"));
  EXPECT_THAT(ran.out, HasSubstr("In the beginning"));
  EXPECT_EQ(summarized.first_position(), 100u);
  EXPECT_EQ(summarized.count(), 20u);
  EXPECT_EQ(searched.dimension(), 4u);
  EXPECT_EQ(searched.k(), 3u);
  EXPECT_TRUE(searched.with_payloads());
  EXPECT_EQ(Context({"search", "genesis"}).code, ExitCode::kUsage);
  for (const char* bad : {"x", "1:", "1:0", "1:2:3", ""}) {
    EXPECT_THAT(Context({"search", "genesis", "--at", bad}).err, HasSubstr("FIRST")) << bad;
  }
  EXPECT_THAT(Context({"search", "genesis", "--vector", "-"}, {.input = "abc"}).err,
              HasSubstr("3 bytes"));
}

}  // namespace
}  // namespace mnemo::cli
