#include "server/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {

BlockStoreOptions MakeBlockStoreOptions(const Config& config) {
  return {.directory = config.data_dir,
          .l1_bytes = config.memory.l1,
          .l2_bytes = config.memory.l2,
          .disk_cache_bytes = config.memory.disk_cache,
          .l3_bytes = config.disk.l3,
          .archive_bytes = config.disk.archive,
          .high_watermark = config.high_watermark,
          .low_watermark = config.low_watermark,
          .promote_hits = static_cast<uint32_t>(config.promote_hits),
          .eviction_policy = config.eviction_policy,
          .wal_interval = config.wal_interval,
          .direct_reads = config.disk.direct_reads,
          .max_reservation = config.max_reservation,
          .lease_share = config.lease_share,
          .pin_share = config.pin_share};
}

// A sixteenth is for filters. Chunks that are read have what the ranges that are
// searched leave; a sixteenth at least.
ContextStoreOptions MakeContextStoreOptions(const Config& config) {
  return {.cache_bytes = config.memory.contexts / 16 * 15,
          .columns_bytes = config.memory.contexts / 16};
}

ContextEngineOptions MakeContextEngineOptions(const Config& config) {
  return {.search_memory_bytes = config.memory.contexts / 8 * 7};
}

TlsFiles MakeTlsFiles(const Config& config) {
  TlsFiles files{.certificate = config.tls.certificate,
                 .key = config.tls.key,
                 .client_ca = config.tls.client_ca,
                 .clients = ClientCertificates::kRequired};
  if (config.tls.clients == "off") files.clients = ClientCertificates::kOff;
  if (config.tls.clients == "optional") files.clients = ClientCertificates::kOptional;
  return files;
}

IdentityOptions MakeIdentityOptions(const Config& config) {
  return {.required = config.auth.required};
}

GateOptions MakeGateOptions(const Config& config) {
  return {.critical_threads = static_cast<size_t>(config.gate.critical_threads),
          .default_threads = static_cast<size_t>(config.gate.default_threads),
          .batch_threads = static_cast<size_t>(config.gate.batch_threads),
          .max_queued = static_cast<size_t>(config.gate.queue),
          .default_deadline = config.gate.default_deadline,
          .inflight_bytes = config.memory.inflight};
}

RpcServerOptions MakeRpcServerOptions(const Config& config) {
  return {.addresses = {config.listen},
          .unix_socket = config.unix_socket,
          .stream_socket = config.streams.unix_socket,
          .max_concurrent_streams = static_cast<int>(config.grpc_max_streams),
          .receive_buffer_bytes = config.memory.connections};
}

absl::StatusOr<StreamServerOptions> MakeStreamServerOptions(const Config& config) {
  const std::string& text = config.streams.socket_mode;
  uint32_t mode = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  if (error != std::errc() || end != text.data() + text.size() || mode > 0777) {
    return absl::InvalidArgumentError(
        fmt::format("streams.socket_mode: '{}' is not allowed; allowed: 0 to 0777, octal", text));
  }
  return StreamServerOptions{.unix_socket = config.streams.unix_socket,
                             .access = {.mode = mode, .owner = config.streams.socket_owner},
                             .tcp_address = config.streams.listen,
                             .threads = static_cast<size_t>(config.streams.threads),
                             .max_connections = static_cast<size_t>(config.streams.max_connections),
                             .busy_poll = config.streams.busy_poll};
}

RegionLimits MakeRegionLimits(const Config& config) {
  return {.tenant_regions = static_cast<uint64_t>(config.streams.regions),
          .tenant_bytes = config.streams.region_bytes,
          .staging_bytes = std::min(config.streams.staging, config.memory.total / 16),
          .process_memory = config.streams.process_memory};
}

MoverPoolOptions MakeMoverPoolOptions(const Config& config) {
  return {.threads = static_cast<size_t>(config.mover.threads),
          .duty = config.mover.duty,
          .idle_wait = config.mover.idle_wait};
}

PrefetchOptions MakePrefetchOptions(const Config& config) {
  const double bytes = config.prefetch.share * static_cast<double>(config.memory.l1);
  return {.tenant_bytes = std::max(static_cast<uint64_t>(bytes), kMiB),
          .follow_blocks = static_cast<uint32_t>(config.prefetch.follow)};
}

ContextUpkeepOptions MakeContextUpkeepOptions(const Config& config) {
  return {.l3_bytes = config.disk.contexts,
          .high_watermark = config.high_watermark,
          .low_watermark = config.low_watermark,
          .promote_hits = static_cast<uint32_t>(config.promote_hits),
          .bytes_per_second = config.upkeep.bytes_per_second,
          .steps_per_second = static_cast<uint32_t>(config.upkeep.steps_per_second),
          .idle_wait = config.upkeep.idle_wait};
}

LevelObjectives MakeLevelObjectives(const Config& config) {
  const auto of = [](const Config::Objective& objective) {
    return LevelObjective{.p99 = objective.p99, .hit_ratio = objective.hit_ratio};
  };
  return {of(config.l1_objective), of(config.l2_objective), of(config.l3_objective),
          of(config.disk_objective)};
}

absl::Status CheckOptions(const Config& config) {
  MNEMO_RETURN_IF_ERROR(MakeBlockStoreOptions(config).Validate());
  MNEMO_RETURN_IF_ERROR(MakeMoverPoolOptions(config).Validate());
  MNEMO_RETURN_IF_ERROR(MakePrefetchOptions(config).Validate());
  MNEMO_RETURN_IF_ERROR(MakeContextUpkeepOptions(config).Validate());
  MNEMO_ASSIGN_OR_RETURN(const StreamServerOptions streams, MakeStreamServerOptions(config));
  if (const absl::Status status = CheckSocketOwner(streams.access.owner); !status.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("streams.socket_owner: {}", std::string(status.message())));
  }
  return MakeGateOptions(config).Validate();
}

}  // namespace mnemo
