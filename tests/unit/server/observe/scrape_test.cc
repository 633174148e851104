#include "server/observe/scrape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/registry.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "server/observe/status_page.h"
#include "tests/support/fake_clock.h"

namespace mnemo {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class ScrapeTest : public ::testing::Test {
 protected:
  ScrapeTest() : metrics_(registry_, {"S/Get", "S/Put"}) {
    LevelFigures& l1 = figures_.levels[0];
    l1.stats.capacity_bytes = 1000;
    l1.stats.used_bytes = 700;
    l1.stats.live_bytes = 600;
    l1.exact_bytes = 600;
    l1.parts = 3;
    l1.lookups = 10;
    l1.hits = 6;
    l1.demoted = 1;
    l1.promoted = 2;
    l1.evicted = 4;
    figures_.levels[2].lookups = 4;
    figures_.levels[2].hits = 4;
    figures_.counters.corrupt_l3 = 9;
    figures_.counters.idle_before_evict.counts[1] = 3;
    figures_.counters.idle_before_evict.counts.back() = 1;
    figures_.counters.idle_before_evict.sum = std::chrono::hours(200);
    figures_.codecs = {{"raw", 400, 390}, {"lossless", 100, 250}, {"rotated4", 10, 40, 0.0625, 3}};
    figures_.contexts = {.waiting = 11,
                         .sweeping = false,
                         .l3 = {12, 13},
                         .archive = {14, 15},
                         .l3_capacity_bytes = 16,
                         .full = true,
                         .refused_appends = 23,
                         .summaries = 17,
                         .demoted = 18,
                         .promoted = 19,
                         .bytes = 20,
                         .damaged_chunks = 22,
                         .failures = 21};
    figures_.streams = {.open = 2, .opened = 5, .closed = {{"done", 1}, {"stalled", 2}}};
    figures_.streams.memory = {{.form = "mapped",
                                .regions = 3,
                                .bytes = 31,
                                .registered = 32,
                                .refused = 33,
                                .bytes_in = 34,
                                .bytes_out = 35,
                                .failed_copies = 36}};
    figures_.prefetches[0] = {.asked = 21,
                              .dropped = 1,
                              .cancelled = 2,
                              .outcomes = {3, 4, 5, 0, 0, 0},
                              .bytes = 400,
                              .waiting = 6,
                              .waiting_bytes = 60};
    figures_.prefetches[1].outcomes = {8, 0, 0, 9, 0, 0};
    figures_.counters.prefetched_used = {2, 7};
    figures_.parts = 8;
    figures_.index.held[Index(SegmentKind::kFlat)].rows = 17;
    figures_.index.held[Index(SegmentKind::kHnsw)].bytes = 900;
    figures_.index.held[Index(SegmentKind::kIvf)].segments = 3;
    figures_.index.built = {.builds = 6,
                            .rows = 4000,
                            .build_time = milliseconds(1500),
                            .cancelled = 2,
                            .failed = 1,
                            .load_failures = 5,
                            .waiting = 7};
    description_ = {.version = "1.2.3",
                    .format_version = 7,
                    .node_id = "abc<>",
                    .started = clock_.Wall(),
                    .insecure = true,
                    .addresses = {"grpc=127.0.0.1:5"},
                    .objectives = {LevelObjective{.p99 = microseconds(100), .hit_ratio = 0.9}}};
  }

  std::string Text() {
    return Scrape(registry_, metrics_, health_, description_, [this] { return figures_; }).Text();
  }
  StatusPage Page() {
    return StatusPage(metrics_, health_, clock_, description_, [this] { return figures_; });
  }
  // The value of the sample whose name and labels are `name`, as written.
  static std::string Sample(const std::string& text, const std::string& name) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(name + " ")) return line.substr(name.size() + 1);
    }
    return "absent";
  }

  FakeClock clock_;
  prometheus::Registry registry_;
  Metrics metrics_;
  Health health_;
  NodeFigures figures_;
  NodeDescription description_;
};

TEST_F(ScrapeTest, LevelsAreAskedOnlyWhileReady) {
  EXPECT_EQ(Sample(Text(), "mnemo_ready"), "0");
  EXPECT_EQ(Sample(Text(), "mnemo_parts"), "absent");
  health_.SetReady();
  const std::string text = Text();
  EXPECT_EQ(Sample(text, "mnemo_ready"), "1");
  EXPECT_EQ(Sample(text, "mnemo_parts"), "8");
  EXPECT_EQ(Sample(text, R"(mnemo_level_used_bytes{level="l1_ram"})"), "700");
  EXPECT_EQ(Sample(text, R"(mnemo_level_capacity_bytes{level="l1_ram"})"), "1000");
  EXPECT_EQ(Sample(text, R"(mnemo_evictions_total{level="l1_ram",reason="pressure"})"), "4");
  EXPECT_EQ(Sample(text, R"(mnemo_promotions_total{level="l1_ram"})"), "2");
  EXPECT_EQ(Sample(text, R"(mnemo_demotions_total{level="l1_ram"})"), "1");
  EXPECT_EQ(Sample(text, R"(mnemo_corruption_detected_total{source="l3_disk",action="miss"})"),
            "9");
  EXPECT_EQ(Sample(text, R"(mnemo_codec_ratio{codec="raw"})"), "0.975");
  EXPECT_EQ(Sample(text, R"(mnemo_codec_ratio{codec="lossless"})"), "2.5");
  EXPECT_EQ(Sample(text, R"(mnemo_codec_error{codec="lossless"})"), "absent");
  EXPECT_EQ(Sample(text, R"(mnemo_codec_error{codec="rotated4"})"), "0.0625");
  const std::string idle = "mnemo_block_idle_before_evict_seconds";
  EXPECT_EQ(Sample(text, idle + R"(_bucket{le="1"})"), "0");
  EXPECT_EQ(Sample(text, idle + R"(_bucket{le="10"})"), "3");
  EXPECT_EQ(Sample(text, idle + R"(_bucket{le="604800"})"), "3");
  EXPECT_EQ(Sample(text, idle + R"(_bucket{le="+Inf"})"), "4");
  EXPECT_EQ(Sample(text, idle + "_count"), "4");
  EXPECT_EQ(Sample(text, idle + "_sum"), "720000");
  EXPECT_EQ(Sample(text, R"(mnemo_prefetch_asked_parts_total{origin="asked"})"), "21");
  EXPECT_EQ(Sample(text, R"(mnemo_prefetch_bytes_total{origin="asked"})"), "400");
  EXPECT_EQ(Sample(text, R"(mnemo_prefetch_waiting_parts{origin="asked"})"), "6");
  EXPECT_EQ(Sample(text, R"(mnemo_prefetch_waiting_bytes{origin="asked"})"), "60");
  const std::string results = R"(mnemo_prefetch_parts_total{origin=)";
  EXPECT_EQ(Sample(text, results + R"("asked",result="brought"})"), "3");
  EXPECT_EQ(Sample(text, results + R"("asked",result="in_ram"})"), "4");
  EXPECT_EQ(Sample(text, results + R"("asked",result="absent"})"), "5");
  EXPECT_EQ(Sample(text, results + R"("asked",result="dropped"})"), "1");
  EXPECT_EQ(Sample(text, results + R"("asked",result="cancelled"})"), "2");
  EXPECT_EQ(Sample(text, results + R"("followed",result="no_room"})"), "9");
  EXPECT_EQ(Sample(text, R"(mnemo_prefetch_used_parts_total{origin="asked"})"), "2");
  EXPECT_EQ(Sample(text, R"(mnemo_prefetch_used_parts_total{origin="followed"})"), "7");
  EXPECT_EQ(Sample(text, "mnemo_streams"), "2");
  EXPECT_EQ(Sample(text, "mnemo_streams_opened_total"), "5");
  EXPECT_EQ(Sample(text, R"(mnemo_streams_closed_total{reason="stalled"})"), "2");
  EXPECT_EQ(Sample(text, R"(mnemo_registered_regions{form="mapped"})"), "3");
  EXPECT_EQ(Sample(text, R"(mnemo_registered_bytes{form="mapped"})"), "31");
  EXPECT_EQ(Sample(text, R"(mnemo_registrations_total{form="mapped"})"), "32");
  EXPECT_EQ(Sample(text, R"(mnemo_registrations_refused_total{form="mapped"})"), "33");
  EXPECT_EQ(Sample(text, R"(mnemo_registered_in_bytes_total{form="mapped"})"), "34");
  EXPECT_EQ(Sample(text, R"(mnemo_registered_out_bytes_total{form="mapped"})"), "35");
  EXPECT_EQ(Sample(text, R"(mnemo_registered_copy_failures_total{form="mapped"})"), "36");
  EXPECT_EQ(Sample(text, R"(mnemo_index_segments{index="ivf"})"), "3");
  EXPECT_EQ(Sample(text, R"(mnemo_index_rows{index="flat"})"), "17");
  EXPECT_EQ(Sample(text, R"(mnemo_index_bytes{index="hnsw"})"), "900");
  EXPECT_EQ(Sample(text, R"(mnemo_index_builds_total{result="published"})"), "6");
  EXPECT_EQ(Sample(text, R"(mnemo_index_builds_total{result="cancelled"})"), "2");
  EXPECT_EQ(Sample(text, R"(mnemo_index_builds_total{result="failed"})"), "1");
  EXPECT_EQ(Sample(text, "mnemo_index_build_seconds_total"), "1.5");
  EXPECT_EQ(Sample(text, "mnemo_index_built_rows_total"), "4000");
  EXPECT_EQ(Sample(text, "mnemo_index_load_failures_total"), "5");
  EXPECT_EQ(Sample(text, "mnemo_index_waiting_ranges"), "7");
  health_.SetStopping();
  EXPECT_EQ(Sample(Text(), "mnemo_parts"), "absent");
}

TEST_F(ScrapeTest, UpkeepOfContextsIsSeen) {
  health_.SetReady();
  const std::string text = Text();
  const std::pair<const char*, const char*> samples[] = {
      {"mnemo_context_upkeep_waiting", "11"},
      {"mnemo_context_upkeep_sweeping", "0"},
      {R"(mnemo_context_runs{level="l3_disk"})", "12"},
      {R"(mnemo_context_run_bytes{level="l3_disk"})", "13"},
      {R"(mnemo_context_runs{level="archive"})", "14"},
      {R"(mnemo_context_run_bytes{level="archive"})", "15"},
      {"mnemo_context_l3_capacity_bytes", "16"},
      {"mnemo_context_summaries_total", "17"},
      {R"(mnemo_context_moves_total{level="archive"})", "18"},
      {R"(mnemo_context_moves_total{level="l3_disk"})", "19"},
      {"mnemo_context_upkeep_bytes_total", "20"},
      {"mnemo_context_damaged_chunks_total", "22"},
      {"mnemo_context_full", "1"},
      {"mnemo_context_refused_appends_total", "23"},
      {"mnemo_context_upkeep_failures_total", "21"}};
  for (const auto& [name, value] : samples) EXPECT_EQ(Sample(text, name), value) << name;
  const auto json = nlohmann::json::parse(Page().Json().body);
  EXPECT_EQ(json["contexts"]["l3_bytes"], 13);
  EXPECT_EQ(json["contexts"]["failures"], 21);
  EXPECT_THAT(Page().Html().body, HasSubstr("contexts at L3"));
}

TEST_F(ScrapeTest, CallsAreCountedByMethodCodeAndClass) {
  metrics_.OnFinished("S/Get", CallClass::kCritical, absl::StatusCode::kOk, microseconds(30));
  metrics_.OnFinished("S/Get", CallClass::kCritical, absl::StatusCode::kOk, milliseconds(30));
  metrics_.OnFinished("S/Get", CallClass::kCritical, absl::StatusCode::kNotFound, milliseconds(1));
  const std::string text = Text();
  EXPECT_EQ(Sample(text, R"(mnemo_grpc_requests_total{class="critical",code="OK",method="S/Get"})"),
            "2");
  EXPECT_EQ(
      Sample(text,
             R"(mnemo_grpc_requests_total{class="critical",code="NOT_FOUND",method="S/Get"})"),
      "1");
  EXPECT_EQ(Sample(text, R"(mnemo_grpc_request_duration_seconds_count{method="S/Get"})"), "3");
  EXPECT_EQ(
      Sample(text, R"(mnemo_grpc_request_duration_seconds_bucket{method="S/Get",le="0.001"})"),
      "2");
  EXPECT_EQ(Sample(text, R"(mnemo_grpc_request_duration_seconds_bucket{method="S/Get",le="+Inf"})"),
            "3");
}

// A client may call any name; it must not make series.
TEST_F(ScrapeTest, UnknownMethodsAreOneSeries) {
  for (int i = 0; i < 100; ++i) {
    metrics_.OnFinished("Evil/" + std::to_string(i), CallClass::kDefault,
                        absl::StatusCode::kUnimplemented, microseconds(1));
  }
  const std::string text = Text();
  EXPECT_THAT(text, Not(HasSubstr("Evil")));
  EXPECT_EQ(
      Sample(text,
             R"(mnemo_grpc_requests_total{class="default",code="UNIMPLEMENTED",method="other"})"),
      "100");
}

TEST_F(ScrapeTest, ObjectivesCompareMeasuredWithAim) {
  health_.SetReady();
  for (int i = 0; i < 100; ++i) metrics_.OnRead(Level::kL1, 10, microseconds(50));
  const std::string text = Text();
  const double hits =
      std::stod(Sample(text, R"(mnemo_qos_objective_ratio{objective="l1_ram_hit_ratio"})"));
  EXPECT_NEAR(hits, 0.6 / 0.9, 1e-6);
  const double p99 =
      std::stod(Sample(text, R"(mnemo_qos_objective_ratio{objective="l1_ram_p99"})"));
  EXPECT_NEAR(p99, 2.0, 0.1);
  // Nothing was measured there, so nothing is claimed.
  EXPECT_THAT(text, Not(HasSubstr("l3_disk_p99")));
}

TEST_F(ScrapeTest, MatchesQueuesAndSheddingAreCounted) {
  const uint64_t hits[kLevelCount] = {16, 0, 32, 0};
  metrics_.OnMatch(64, hits);
  metrics_.OnMiss();
  metrics_.OnQueued(CallClass::kBatch, milliseconds(3));
  metrics_.OnShed(CallClass::kBatch, "queue-full");
  metrics_.OnLogSync(milliseconds(2));
  const std::string text = Text();
  EXPECT_EQ(Sample(text, "mnemo_lookup_tokens_total"), "64");
  EXPECT_EQ(Sample(text, R"(mnemo_hit_tokens_total{level="l1_ram"})"), "16");
  EXPECT_EQ(Sample(text, R"(mnemo_hit_tokens_total{level="l3_disk"})"), "32");
  EXPECT_EQ(Sample(text, "mnemo_read_misses_total"), "1");
  EXPECT_EQ(Sample(text, R"(mnemo_queue_delay_seconds_count{class="batch"})"), "1");
  EXPECT_EQ(Sample(text, R"(mnemo_shed_total{class="batch",reason="queue-full"})"), "1");
  EXPECT_EQ(Sample(text, "mnemo_wal_fsync_duration_seconds_count"), "1");
  EXPECT_EQ(Sample(text, R"(mnemo_build_info{version="1.2.3",format="7"})"), "1");
  EXPECT_EQ(Sample(text, "mnemo_insecure"), "1");
}

TEST_F(ScrapeTest, StatusPageEscapesAndJudges) {
  health_.SetReady();
  health_.SetProblem("disk", "disk: <b>full</b>");
  metrics_.OnRead(Level::kL1, 10, milliseconds(5));
  const HttpResponse page = Page().Html();
  EXPECT_THAT(page.body, AllOf(HasSubstr("abc&lt;&gt;"), HasSubstr("disk: &lt;b&gt;full"),
                               Not(HasSubstr("<b>")), HasSubstr("Insecure")));
  // 0.6 of 0.9 and 5 ms of 0.1 ms: both missed.
  EXPECT_THAT(page.body, AllOf(HasSubstr("✗ 0.600 of 0.90"), HasSubstr("of 100 us")));
  EXPECT_THAT(page.style_hash, ::testing::StartsWith("sha256-"));
}

TEST_F(ScrapeTest, JsonTwinHasTheSameFigures) {
  health_.SetReady();
  clock_.Advance(std::chrono::seconds(90));
  metrics_.OnFinished("S/Put", CallClass::kBatch, absl::StatusCode::kAborted, milliseconds(1));
  const nlohmann::json json = nlohmann::json::parse(Page().Json().body);
  EXPECT_EQ(json["phase"], "ready");
  EXPECT_EQ(json["uptime_seconds"], 90);
  EXPECT_EQ(json["levels"].size(), kLevelCount);
  EXPECT_EQ(json["levels"][0]["level"], "l1_ram");
  EXPECT_EQ(json["levels"][0]["hit_ratio"], 0.6);
  EXPECT_EQ(json["levels"][0]["p99_objective_seconds"], 0.0001);
  EXPECT_EQ(json["methods"][0]["method"], "S/Put");
  EXPECT_EQ(json["methods"][0]["errors"], 1);
}

}  // namespace
}  // namespace mnemo
