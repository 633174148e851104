#include "server/observe/scrape.h"

#include <fmt/format.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <sstream>

#include "server/observe/metric_families.h"

namespace mnemo {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;
using Families = std::vector<MetricFamily>;

std::string LabelOf(size_t level) { return std::string(LevelLabel(static_cast<Level>(level))); }

void AddValue(Families& families, const std::string& name, const std::string& help, MetricType type,
              double value) {
  families.push_back(MetricFamilyBuilder(name, help, type).Add(value).Take());
}

void AddByLevel(Families& families, const NodeFigures& figures, const std::string& name,
                const std::string& help, MetricType type, uint64_t (*value)(const LevelFigures&),
                const MetricLabels& more = {}) {
  MetricFamilyBuilder family(name, help, type);
  for (size_t i = 0; i < kLevelCount; ++i) {
    MetricLabels labels = {{"level", LabelOf(i)}};
    labels.insert(labels.end(), more.begin(), more.end());
    family.Add(static_cast<double>(value(figures.levels[i])), labels);
  }
  families.push_back(family.Take());
}

void AddLevels(Families& families, const NodeFigures& figures) {
  const auto gauge = [&](const char* name, const char* help,
                         uint64_t (*value)(const LevelFigures&)) {
    AddByLevel(families, figures, name, help, MetricType::Gauge, value);
  };
  const auto counter = [&](const char* name, const char* help,
                           uint64_t (*value)(const LevelFigures&)) {
    AddByLevel(families, figures, name, help, MetricType::Counter, value);
  };
  gauge("mnemo_level_used_bytes", "What the parts at a level take, overhead included.",
        [](const LevelFigures& level) { return level.stats.used_bytes; });
  gauge("mnemo_level_capacity_bytes", "What a level may hold; 0 is bounded by the disk alone.",
        [](const LevelFigures& level) { return level.stats.capacity_bytes; });
  gauge("mnemo_level_live_bytes", "The parts at a level as stored, without overhead.",
        [](const LevelFigures& level) { return level.stats.live_bytes; });
  gauge("mnemo_level_exact_bytes", "The parts at a level before codecs.",
        [](const LevelFigures& level) { return level.exact_bytes; });
  gauge("mnemo_level_parts", "Parts at a level.",
        [](const LevelFigures& level) { return level.parts; });
  counter("mnemo_level_lookups_total", "Reads of parts held at a level or below it.",
          [](const LevelFigures& level) { return level.lookups; });
  counter("mnemo_level_hits_total", "Reads answered at a level.",
          [](const LevelFigures& level) { return level.hits; });
  counter("mnemo_promotions_total", "Parts that came to a nearer level, by the one they left.",
          [](const LevelFigures& level) { return level.promoted; });
  counter("mnemo_demotions_total", "Parts that went to a farther level, by the one they left.",
          [](const LevelFigures& level) { return level.demoted; });
  AddByLevel(families, figures, "mnemo_evictions_total", "Parts dropped, by level and reason.",
             MetricType::Counter, [](const LevelFigures& level) { return level.evicted; },
             {{"reason", "pressure"}});
}

// Only codecs that something is stored by have a ratio.
void AddCodecs(Families& families, const std::vector<CodecFigures>& codecs) {
  MetricFamilyBuilder ratios("mnemo_codec_ratio",
                             "Exact over stored bytes of all that a codec encoded and that is "
                             "stored now; above 1 it saves.",
                             MetricType::Gauge);
  MetricFamilyBuilder errors("mnemo_codec_error",
                             "Relative error of values that a codec keeps, as measured when they "
                             "were encoded: mean of the parts that were sampled last.",
                             MetricType::Gauge);
  for (const CodecFigures& each : codecs) {
    ratios.Add(static_cast<double>(each.exact_bytes) / static_cast<double>(each.stored_bytes),
               {{"codec", each.codec}});
    if (each.error) errors.Add(*each.error, {{"codec", each.codec}});
  }
  families.push_back(ratios.Take());
  families.push_back(errors.Take());
}

void AddCounters(Families& families, const BlockStoreCounters& counters) {
  const uint64_t corrupt[kLevelCount] = {counters.corrupt_l1, counters.corrupt_l2,
                                         counters.corrupt_l3, counters.corrupt_archive};
  MetricFamilyBuilder corruption("mnemo_corruption_detected_total",
                                 "Stored parts that failed their checksum, by where and what came "
                                 "of it.",
                                 MetricType::Counter);
  for (size_t i = 0; i < kLevelCount; ++i) {
    corruption.Add(static_cast<double>(corrupt[i]), {{"source", LabelOf(i)}, {"action", "miss"}});
  }
  families.push_back(corruption.Take());
  families.push_back(
      MetricFamilyBuilder("mnemo_write_behind_parts_total",
                          "Cache parts that left RAM, by whether they were admitted "
                          "to disk.",
                          MetricType::Counter)
          .Add(static_cast<double>(counters.write_behind), {{"result", "written"}})
          .Add(static_cast<double>(counters.write_behind_skipped), {{"result", "skipped"}})
          .Take());
  families.push_back(
      MetricFamilyBuilder("mnemo_block_idle_before_evict_seconds",
                          "How long parts that were dropped for room had not been used.",
                          MetricType::Histogram)
          .AddHistogram(counters.idle_before_evict.counts, IdleHistogram::kLimits,
                        counters.idle_before_evict.sum)
          .Take());
  AddValue(families, "mnemo_refused_puts_total", "Writes refused for want of room.",
           MetricType::Counter, static_cast<double>(counters.refused_puts));
  AddValue(families, "mnemo_below_floor_parts_total",
           "Copies dropped that were kept in fewer bits than their space's floor.",
           MetricType::Counter, static_cast<double>(counters.below_floor));
  AddValue(families, "mnemo_reencoded_parts_total",
           "Copies brought into the form that their space asks for where they lay.",
           MetricType::Counter, static_cast<double>(counters.reencoded));
  AddValue(families, "mnemo_expired_parts_total", "Parts dropped at the end of their time to live.",
           MetricType::Counter, static_cast<double>(counters.expired));
}

void AddContexts(Families& families, const ContextUpkeepFigures& contexts) {
  const auto gauge = [&](const char* name, const char* help, uint64_t value) {
    AddValue(families, name, help, MetricType::Gauge, static_cast<double>(value));
  };
  const auto counter = [&](const char* name, const char* help, uint64_t value) {
    AddValue(families, name, help, MetricType::Counter, static_cast<double>(value));
  };
  const auto by_level = [&](const char* name, const char* help, uint64_t l3, uint64_t archive) {
    families.push_back(
        MetricFamilyBuilder(name, help, MetricType::Gauge)
            .Add(static_cast<double>(l3), {{"level", std::string(LevelLabel(Level::kL3))}})
            .Add(static_cast<double>(archive), {{"level", std::string(LevelLabel(Level::kDisk))}})
            .Take());
  };
  by_level("mnemo_context_runs", "Whole runs of 2,048 tokens, by where their embeddings lie.",
           contexts.l3.runs, contexts.archive.runs);
  by_level("mnemo_context_run_bytes", "Embeddings of whole runs, as stored.", contexts.l3.bytes,
           contexts.archive.bytes);
  gauge("mnemo_context_l3_capacity_bytes", "disk.contexts.", contexts.l3_capacity_bytes);
  gauge("mnemo_context_full", "1 while appends are refused, for want of room on disk.",
        contexts.full ? 1 : 0);
  counter("mnemo_context_refused_appends_total", "Appends that were refused for want of room.",
          contexts.refused_appends);
  gauge("mnemo_context_upkeep_waiting", "Contexts that wait for summaries or a look.",
        contexts.waiting);
  gauge("mnemo_context_upkeep_sweeping",
        "1 while not every context was seen since the start, so that the others are too small.",
        contexts.sweeping ? 1 : 0);
  counter("mnemo_context_summaries_total", "Summaries written.", contexts.summaries);
  families.push_back(MetricFamilyBuilder("mnemo_context_moves_total",
                                         "Runs moved, by the level they went to.",
                                         MetricType::Counter)
                         .Add(static_cast<double>(contexts.promoted),
                              {{"level", std::string(LevelLabel(Level::kL3))}})
                         .Add(static_cast<double>(contexts.demoted),
                              {{"level", std::string(LevelLabel(Level::kDisk))}})
                         .Take());
  counter("mnemo_context_upkeep_bytes_total", "Embeddings read for summaries, or moved.",
          contexts.bytes);
  counter("mnemo_context_damaged_chunks_total",
          "Chunks of 128 tokens that could not be read and were left out of summaries.",
          contexts.damaged_chunks);
  counter("mnemo_context_upkeep_failures_total",
          "Pieces of upkeep that failed; the log has the reasons.", contexts.failures);
}

void AddBudgets(Families& families, const NodeFigures& figures) {
  const auto gauge = [&](const char* name, const char* help, uint64_t value) {
    AddValue(families, name, help, MetricType::Gauge, static_cast<double>(value));
  };
  gauge("mnemo_parts", "Parts known.", figures.parts);
  gauge("mnemo_spaces", "Spaces of all tenants.", figures.spaces);
  gauge("mnemo_inflight_bytes", "Payload bytes of calls in progress.", figures.inflight_bytes);
  gauge("mnemo_inflight_capacity_bytes", "What mnemo_inflight_bytes may reach.",
        figures.inflight_capacity_bytes);
  gauge("mnemo_memory_budget_bytes", "memory.total.", figures.memory_budget_bytes);
  gauge("mnemo_disk_budget_bytes", "disk.total.", figures.disk_budget_bytes);
  gauge("mnemo_disk_used_bytes", "Used by the disk levels.", figures.disk_used_bytes);
  gauge("mnemo_disk_free_bytes", "Free on the file system of the data directory.",
        figures.disk_free_bytes);
}

void AddIndex(Families& families, const ContextIndexFigures& index) {
  constexpr const char* kKinds[kSegmentKinds] = {"flat", "hnsw", "ivf"};
  MetricFamilyBuilder segments("mnemo_index_segments",
                               "Segments of contexts in RAM, by what finds their tokens.",
                               MetricType::Gauge);
  MetricFamilyBuilder rows("mnemo_index_rows",
                           "Tokens of segments in RAM; those of \"flat\" are not indexed yet.",
                           MetricType::Gauge);
  MetricFamilyBuilder bytes("mnemo_index_bytes", "RAM that segments of contexts take.",
                            MetricType::Gauge);
  for (size_t kind = 0; kind < kSegmentKinds; ++kind) {
    const MetricLabels labels = {{"index", kKinds[kind]}};
    segments.Add(static_cast<double>(index.held[kind].segments), labels);
    rows.Add(static_cast<double>(index.held[kind].rows), labels);
    bytes.Add(static_cast<double>(index.held[kind].bytes), labels);
  }
  families.push_back(segments.Take());
  families.push_back(rows.Take());
  families.push_back(bytes.Take());
  const ContextIndexerFigures& built = index.built;
  families.push_back(MetricFamilyBuilder("mnemo_index_builds_total",
                                         "Builds of sealed segments, by what came of them.",
                                         MetricType::Counter)
                         .Add(static_cast<double>(built.builds), {{"result", "published"}})
                         .Add(static_cast<double>(built.cancelled), {{"result", "cancelled"}})
                         .Add(static_cast<double>(built.failed), {{"result", "failed"}})
                         .Take());
  const auto counter = [&](const char* name, const char* help, double value) {
    AddValue(families, name, help, MetricType::Counter, value);
  };
  counter("mnemo_index_build_seconds_total", "Time of builds that were published.",
          Seconds(built.build_time));
  counter("mnemo_index_built_rows_total", "Tokens in builds that were published.",
          static_cast<double>(built.rows));
  counter("mnemo_index_load_failures_total",
          "Ranges whose stored segments could not be used, and are built again.",
          static_cast<double>(built.load_failures));
  AddValue(families, "mnemo_index_waiting_ranges", "Ranges that are to be looked at.",
           MetricType::Gauge, static_cast<double>(built.waiting));
}

void AddPrefetches(Families& families, const NodeFigures& figures) {
  constexpr const char* kOrigins[kPrefetchOrigins] = {"asked", "followed"};
  constexpr const char* kResults[kPrefetchOutcomes] = {"brought", "in_ram", "absent",
                                                       "no_room", "busy",   "failed"};
  const auto by_origin = [&](const char* name, const char* help, MetricType type,
                             uint64_t PrefetchFigures::*value) {
    MetricFamilyBuilder family(name, help, type);
    for (size_t i = 0; i < kPrefetchOrigins; ++i) {
      family.Add(static_cast<double>(figures.prefetches[i].*value), {{"origin", kOrigins[i]}});
    }
    families.push_back(family.Take());
  };
  by_origin("mnemo_prefetch_asked_parts_total",
            "Parts on disk that were to be brought into RAM ahead of use.", MetricType::Counter,
            &PrefetchFigures::asked);
  by_origin("mnemo_prefetch_bytes_total", "Exact bytes of parts brought into RAM ahead of use.",
            MetricType::Counter, &PrefetchFigures::bytes);
  by_origin("mnemo_prefetch_waiting_parts", "Parts that wait to be brought into RAM.",
            MetricType::Gauge, &PrefetchFigures::waiting);
  by_origin("mnemo_prefetch_waiting_bytes", "Exact bytes of those.", MetricType::Gauge,
            &PrefetchFigures::waiting_bytes);
  MetricFamilyBuilder results("mnemo_prefetch_parts_total",
                              "What came of parts that were to be brought into RAM.",
                              MetricType::Counter);
  MetricFamilyBuilder used("mnemo_prefetch_used_parts_total",
                           "Parts brought into RAM ahead of use that were then read there.",
                           MetricType::Counter);
  for (size_t i = 0; i < kPrefetchOrigins; ++i) {
    const PrefetchFigures& each = figures.prefetches[i];
    const auto add = [&](const char* result, uint64_t parts) {
      results.Add(static_cast<double>(parts), {{"origin", kOrigins[i]}, {"result", result}});
    };
    for (size_t k = 0; k < kPrefetchOutcomes; ++k) add(kResults[k], each.outcomes[k]);
    add("dropped", each.dropped);
    add("cancelled", each.cancelled);
    used.Add(static_cast<double>(figures.counters.prefetched_used[i]), {{"origin", kOrigins[i]}});
  }
  families.push_back(results.Take());
  families.push_back(used.Take());
}

void AddStreams(Families& families, const StreamFigures& streams) {
  AddValue(families, "mnemo_streams", "Streams that are open.", MetricType::Gauge,
           static_cast<double>(streams.open));
  AddValue(families, "mnemo_streams_opened_total", "Streams that were opened.", MetricType::Counter,
           static_cast<double>(streams.opened));
  MetricFamilyBuilder closed("mnemo_streams_closed_total", "Streams that ended, by reason.",
                             MetricType::Counter);
  for (const auto& [reason, count] : streams.closed) {
    closed.Add(static_cast<double>(count), {{"reason", std::string(reason)}});
  }
  families.push_back(closed.Take());
  using Memory = StreamFigures::Memory;
  const auto by_form = [&](const char* name, const char* help, MetricType type,
                           uint64_t Memory::*value) {
    MetricFamilyBuilder family(name, help, type);
    for (const Memory& each : streams.memory) {
      family.Add(static_cast<double>(each.*value), {{"form", std::string(each.form)}});
    }
    families.push_back(family.Take());
  };
  by_form("mnemo_registered_regions", "Registrations of clients' memory.", MetricType::Gauge,
          &Memory::regions);
  by_form("mnemo_registered_bytes", "Memory of clients that is registered.", MetricType::Gauge,
          &Memory::bytes);
  by_form("mnemo_registrations_total", "Registrations that were made.", MetricType::Counter,
          &Memory::registered);
  by_form("mnemo_registrations_refused_total", "Registrations that were refused.",
          MetricType::Counter, &Memory::refused);
  by_form("mnemo_registered_in_bytes_total", "Copied from clients' memory.", MetricType::Counter,
          &Memory::bytes_in);
  by_form("mnemo_registered_out_bytes_total", "Copied to clients' memory.", MetricType::Counter,
          &Memory::bytes_out);
  by_form("mnemo_registered_copy_failures_total",
          "Copies that failed because of the client's memory.", MetricType::Counter,
          &Memory::failed_copies);
}

void AddProcess(Families& families) {
  const ProcessFigures process = ReadProcess();
  AddValue(families, "process_resident_memory_bytes", "Resident memory.", MetricType::Gauge,
           static_cast<double>(process.resident_bytes));
  AddValue(families, "process_cpu_seconds_total", "User and system time.", MetricType::Counter,
           process.cpu_seconds);
  AddValue(families, "process_open_fds", "Open file descriptors.", MetricType::Gauge,
           static_cast<double>(process.open_files));
  AddValue(families, "process_max_fds", "File descriptors that may be open.", MetricType::Gauge,
           static_cast<double>(process.max_files));
}

}  // namespace

Scrape::Scrape(const prometheus::Registry& registry, const Metrics& metrics, const Health& health,
               NodeDescription description, FiguresSource figures)
    : registry_(registry),
      metrics_(metrics),
      health_(health),
      description_(std::move(description)),
      figures_(std::move(figures)) {}

std::string Scrape::Text() const {
  Families families = registry_.Collect();
  for (MetricFamily& family : metrics_.CollectHistograms()) families.push_back(std::move(family));
  AddProcess(families);
  AddValue(families, "process_start_time_seconds", "Start, since the Unix epoch.",
           MetricType::Gauge, static_cast<double>(description_.started.nanos) / 1e9);
  AddValue(families, "mnemo_ready", "1 while the daemon takes calls.", MetricType::Gauge,
           health_.ready() ? 1 : 0);
  AddValue(families, "mnemo_insecure",
           "1 if it serves beyond loopback without TLS and client certificates.", MetricType::Gauge,
           description_.insecure ? 1 : 0);
  families.push_back(MetricFamilyBuilder("mnemo_build_info", "Always 1; the labels say what runs.",
                                         MetricType::Gauge)
                         .Add(1, {{"version", description_.version},
                                  {"format", fmt::format("{}", description_.format_version)}})
                         .Take());
  if (health_.ready()) {
    const NodeFigures figures = figures_();
    AddLevels(families, figures);
    AddCodecs(families, figures.codecs);
    AddCounters(families, figures.counters);
    AddValue(families, "mnemo_reencoding_parts_left",
             "Parts still to be looked at since a floor changed, or something was kept as it came.",
             MetricType::Gauge, static_cast<double>(figures.reencoding_parts_left));
    AddContexts(families, figures.contexts);
    AddBudgets(families, figures);
    AddIndex(families, figures.index);
    AddPrefetches(families, figures);
    AddStreams(families, figures.streams);
    if (const auto& expires = figures.certificate_expires) {
      AddValue(families, "mnemo_tls_certificate_expiry_timestamp_seconds",
               "When the node's certificate ends, since the Unix epoch.", MetricType::Gauge,
               static_cast<double>(expires->nanos) / 1e9);
    }
    MetricFamilyBuilder ratios("mnemo_qos_objective_ratio",
                               "Measured over objective since the start; at least 1 is met.",
                               MetricType::Gauge);
    for (const ObjectiveRatio& each : ObjectiveRatios(description_.objectives, metrics_, figures)) {
      ratios.Add(each.ratio, {{"objective", each.objective}});
    }
    families.push_back(ratios.Take());
  }
  // A family without series would be a HELP line about nothing.
  std::erase_if(families, [](const MetricFamily& family) { return family.metric.empty(); });
  std::sort(families.begin(), families.end(),
            [](const MetricFamily& a, const MetricFamily& b) { return a.name < b.name; });
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

std::vector<ObjectiveRatio> ObjectiveRatios(const LevelObjectives& objectives,
                                            const Metrics& metrics, const NodeFigures& figures) {
  std::vector<ObjectiveRatio> ratios;
  for (size_t i = 0; i < kLevelCount; ++i) {
    const LevelObjective& objective = objectives[i];
    const LevelFigures& level = figures.levels[i];
    if (objective.hit_ratio > 0 && level.lookups > 0) {
      const double hit_ratio = static_cast<double>(level.hits) / static_cast<double>(level.lookups);
      ratios.push_back({LabelOf(i) + "_hit_ratio", hit_ratio / objective.hit_ratio});
    }
    const LatencyHistogram::Snapshot times = metrics.ReadTimes(static_cast<Level>(i));
    const Nanos p99 = times.Quantile(0.99);
    if (objective.p99.count() > 0 && p99.count() > 0) {
      ratios.push_back({LabelOf(i) + "_p99", Seconds(objective.p99) / Seconds(p99)});
    }
  }
  return ratios;
}

}  // namespace mnemo
