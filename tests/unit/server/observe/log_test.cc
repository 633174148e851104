#include "server/observe/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>
#include <vector>

#include "tests/support/fake_clock.h"

namespace mnemo {
namespace {

using ::testing::Each;
using ::testing::SizeIs;

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

class LogTest : public ::testing::Test {
 protected:
  FakeClock clock_;  // 2023-11-14T22:13:20Z
  std::ostringstream out_;
};

TEST_F(LogTest, TextIsKeyAndValueOnOneLine) {
  clock_.Advance(std::chrono::milliseconds(7));
  Logger log({}, clock_, out_);
  log.Info("ready", {{"grpc", "127.0.0.1:7070"}, {"parts", 12u}, {"share", 0.5}, {"ok", true}});
  EXPECT_EQ(out_.str(),
            "time=2023-11-14T22:13:20.007Z level=info event=ready grpc=127.0.0.1:7070 parts=12 "
            "share=0.5 ok=true\n");
}

TEST_F(LogTest, JsonKeepsNumbersAndBooleans) {
  Logger log({.json = true}, clock_, out_);
  log.Warning("slow", {{"ms", -3}, {"why", "a \"b\""}, {"nan", std::nan("")}});
  const nlohmann::json line = nlohmann::json::parse(out_.str());
  EXPECT_EQ(line["level"], "warning");
  EXPECT_EQ(line["event"], "slow");
  EXPECT_EQ(line["ms"], -3);
  EXPECT_EQ(line["why"], "a \"b\"");
  EXPECT_TRUE(line["nan"].is_null());
}

// What comes from outside must not forge lines or fields.
TEST_F(LogTest, HostileValuesStayInTheirField) {
  const std::string hostile = "x\ntime=now level=error \"y\" \x1b[31m \xff\xfe";
  Logger text({}, clock_, out_);
  text.Info("e", {{"value", hostile}, {"empty", ""}});
  Logger json({.json = true}, clock_, out_);
  json.Info("e", {{"value", hostile}});
  const std::vector<std::string> lines = Lines(out_.str());
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_NE(lines[0].find(R"(value="x\ntime=now level=error \"y\" \u001b[31m )"), std::string::npos)
      << lines[0];
  EXPECT_NE(lines[0].find(" empty=\"\""), std::string::npos);
  EXPECT_TRUE(nlohmann::json::accept(lines[1])) << lines[1];
}

TEST_F(LogTest, LinesBelowTheLevelAreNotWritten) {
  Logger log({.level = ParseLogLevel("warning")}, clock_, out_);
  log.Debug("a");
  log.Info("b");
  EXPECT_EQ(out_.str(), "");
  log.Warning("c");
  log.Error("d");
  EXPECT_THAT(Lines(out_.str()), SizeIs(2));
}

TEST_F(LogTest, ThreadsDoNotTearLines) {
  Logger log({.json = true}, clock_, out_);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&log] {
      for (int i = 0; i < 500; ++i) log.Info("e", {{"i", i}});
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<std::string> lines = Lines(out_.str());
  EXPECT_THAT(lines, SizeIs(2000));
  EXPECT_THAT(
      lines,
      Each(::testing::Truly([](const std::string& line) { return nlohmann::json::accept(line); })));
}

}  // namespace
}  // namespace mnemo
