// The table itself.
#include <algorithm>

#include "server/config/config.h"
#include "server/config/registry.h"

namespace mnemo {
namespace {

// Shorthand for a field of Config, or of a member of it.
#define MNEMO_FIELD(Kind, member)                          \
  Kind {                                                   \
    [](Config & config) -> auto& { return config.member; } \
  }

AddressField MaybeOff(AddressField field) {
  field.is_http = true;
  return field;
}

std::vector<Setting> AddressSettings() {
  return {
      {.key = "data_dir",
       .field = MNEMO_FIELD(TextField, data_dir),
       .default_text = "/var/lib/mnemo",
       .description = "Folder of everything that is kept. Made if it is not there. One daemon at a "
                      "time.",
       .has_flag = true},
      {.key = "insecure",
       .field = MNEMO_FIELD(BooleanField, insecure),
       .default_text = "false",
       .description = "Allows `listen` and `metrics.listen` beyond loopback without TLS and client "
                      "certificates. Who may call is up to `auth.required` alone then.",
       .has_flag = true},
      {.key = "listen",
       .field = MNEMO_FIELD(AddressField, listen),
       .default_text = "127.0.0.1:7070",
       .description =
           "Address of the gRPC service. Port 0 takes any free one. Beyond loopback only "
           "with TLS and client certificates, or with `insecure`.",
       .has_flag = true},
      {.key = "metrics.listen",
       .field = AddressField{[](Config & config) -> auto& {return config.metrics_listen;
}
, true
}  // namespace
, .default_text = "127.0.0.1:7071",
  .description =
      "Address of /metrics and of the status page: IPv4, or off. Beyond loopback only with "
      "`insecure`.",
  .has_flag = true
}  // namespace mnemo
, {.key = "probe.listen",
   .field = AddressField{[](Config & config) -> auto& {return config.probe_listen;
}
, true
}
, .default_text = "127.0.0.1:7072",
  .description =
      "Address of /livez, /readyz and /startupz: IPv4, or off. They tell nothing but yes or "
      "no, so any address is allowed.",
  .has_flag = true
}
,
    {.key = "ready_file",
     .field = MNEMO_FIELD(TextField, ready_file),
     .default_text = "",
     .description =
         "Gets one JSON line with the bound addresses once the daemon serves; - is "
         "standard output.",
     .has_flag = true},
    {.key = "unix_socket",
     .field = MNEMO_FIELD(SocketField, unix_socket),
     .default_text = "auto",
     .description =
         "UNIX socket of the gRPC service, off for none; auto is mnemod.sock in "
         "`data_dir`. At most 107 bytes.",
     .has_flag = true},
}
;
}

std::vector<Setting> IdentitySettings() {
  return {
      {.key = "auth.file",
       .field = MNEMO_FIELD(TextField, auth.file),
       .default_text = "",
       .description = "Identity file (YAML): principals with their tenants, roles, hashes of "
                      "tokens, certificates. Read again when it changes."},
      {.key = "auth.required",
       .field = MNEMO_FIELD(BooleanField, auth.required),
       .default_text = "false",
       .description = "Refuses who shows no token and no client certificate of a principal. "
                      "Otherwise that is the tenant `local` with every role."},
      {.key = "tls.certificate",
       .field = MNEMO_FIELD(TextField, tls.certificate),
       .default_text = "",
       .description = "PEM file of the node's certificate and what leads to its CA; makes `listen` "
                      "TLS. Read again, with the other two, when it changes."},
      {.key = "tls.client_ca",
       .field = MNEMO_FIELD(TextField, tls.client_ca),
       .default_text = "",
       .description = "PEM file of the CAs that clients' certificates are checked against."},
      {.key = "tls.clients",
       .field = MNEMO_FIELD(ChoiceField, tls.clients),
       .default_text = "required",
       .choices = {"off", "optional", "required"},
       .description = "Whether a client must show a certificate; one that is shown must be good."},
      {.key = "tls.key",
       .field = MNEMO_FIELD(TextField, tls.key),
       .default_text = "",
       .description = "PEM file of the certificate's private key, without a passphrase."},
      {.key = "streams.listen",
       .field = MaybeOff(MNEMO_FIELD(AddressField, streams.listen)),
       .default_text = "off",
       .description =
           "TCP address of the streams in which payload travels to other hosts, off for none; 7073 "
           "is their usual port, 0 any free one. With tls.certificate, TLS as of `listen`.",
       .has_flag = true},
  };
}

std::vector<Setting> StreamSettings() {
  return {
      {.key = "streams.busy_poll",
       .field = MNEMO_FIELD(DurationField, streams.busy_poll),
       .default_text = "100us",
       .minimum = "0",
       .maximum = "10ms",
       .description = "How long a thread of the streams looks for the next request before it "
                      "sleeps, while requests follow one another within twice that; 0 for not "
                      "at all."},
      {.key = "streams.max_connections",
       .field = MNEMO_FIELD(IntegerField, streams.max_connections),
       .default_text = "4096",
       .minimum = "1",
       .maximum = "65536",
       .description = "Streams at once, over the UNIX socket and over TCP apart; more are turned "
                      "away."},
      {.key = "streams.process_memory",
       .field = MNEMO_FIELD(BooleanField, streams.process_memory),
       .default_text = "true",
       .description = "Lets a client with the daemon's own uid register memory of its process, "
                      "where the kernel allows it."},
      {.key = "streams.region_bytes",
       .field = MNEMO_FIELD(SizeField, streams.region_bytes),
       .default_text = "64GiB",
       .minimum = "1MiB",
       .maximum = "1024TiB",
       .description = "Memory of clients that one tenant may have registered."},
      {.key = "streams.regions",
       .field = MNEMO_FIELD(IntegerField, streams.regions),
       .default_text = "4096",
       .minimum = "1",
       .maximum = "65536",
       .description = "Pieces of memory that one tenant may have registered."},
      {.key = "streams.socket_mode",
       .field = MNEMO_FIELD(TextField, streams.socket_mode),
       .default_text = "0600",
       .description = "Permissions of the socket's file, octal: who may write to it may connect."},
      {.key = "streams.socket_owner",
       .field = MNEMO_FIELD(TextField, streams.socket_owner),
       .default_text = "",
       .description = "Owner of the socket's file, USER, USER:GROUP or :GROUP, by name or number; "
                      "empty: the daemon's."},
      {.key = "streams.staging",
       .field = MNEMO_FIELD(SizeField, streams.staging),
       .default_text = "64MiB",
       .minimum = "0",
       .maximum = "1TiB",
       .description = "Memory that the daemon makes for clients which cannot share their own, of "
                      "all tenants; at most a sixteenth of memory.total."},
      {.key = "streams.threads",
       .field = MNEMO_FIELD(IntegerField, streams.threads),
       .default_text = "1",
       .minimum = "1",
       .maximum = "64",
       .description = "Threads that read streams and answer what lies in RAM."},
      {.key = "streams.unix_socket",
       .field = MNEMO_FIELD(SocketField, streams.unix_socket),
       .default_text = "auto",
       .description =
           "UNIX socket of the streams by which blocks travel through shared memory, off "
           "for none; auto is streams.sock in `data_dir`, or off where that is longer "
           "than 107 bytes.",
       .has_flag = true},
  };
}

std::vector<Setting> MemorySettings() {
  return {
      {.key = "memory.connections",
       .field = MNEMO_FIELD(SizeField, memory.connections),
       .default_text = "auto",
       .minimum = "16MiB",
       .maximum = "8TiB",
       .description = "gRPC's own buffers of all connections together."},
      {.key = "memory.contexts",
       .field = MNEMO_FIELD(SizeField, memory.contexts),
       .default_text = "auto",
       .minimum = "16MiB",
       .maximum = "8TiB",
       .description = "Contexts in RAM: indexes that are searched, up to seven eighths; a "
                      "sixteenth for filters; embeddings that were read have the rest."},
      {.key = "memory.directory",
       .field = MNEMO_FIELD(SizeField, memory.directory),
       .default_text = "auto",
       .minimum = "4MiB",
       .maximum = "8TiB",
       .description = "Set aside for the directory, which takes up to 160 bytes a part."},
      {.key = "memory.disk_cache",
       .field = MNEMO_FIELD(SizeField, memory.disk_cache),
       .default_text = "auto",
       .minimum = "16MiB",
       .maximum = "8TiB",
       .description =
           "Block cache and memtables of all RocksDB instances together, and an eighth for "
           "reading ahead."},
      {.key = "memory.inflight",
       .field = MNEMO_FIELD(SizeField, memory.inflight),
       .default_text = "auto",
       .minimum = "16MiB",
       .maximum = "1TiB",
       .description = "Bytes of calls in progress; the gate sheds what would exceed it."},
      {.key = "memory.l1",
       .field = MNEMO_FIELD(SizeField, memory.l1),
       .default_text = "auto",
       .minimum = "64MiB",
       .maximum = "8TiB",
       .description = "L1: parts in RAM, exact bytes."},
      {.key = "memory.l2",
       .field = MNEMO_FIELD(SizeField, memory.l2),
       .default_text = "auto",
       .minimum = "0",
       .maximum = "8TiB",
       .description =
           "L2: parts in RAM, encoded where it pays. 0: no L2; otherwise at least 2MiB."},
      {.key = "memory.total",
       .field = MNEMO_FIELD(SizeField, memory.total),
       .default_text = "auto",
       .minimum = "160MiB",
       .maximum = "8TiB",
       .description =
           "All memory of the daemon. auto: half of the cgroup's limit or of RAM. What is "
           "not given of memory.* is derived from it.",
       .has_flag = true},
  };
}

std::vector<Setting> DiskSettings() {
  return {
      {.key = "disk.archive",
       .field = MNEMO_FIELD(SizeField, disk.archive),
       .default_text = "auto",
       .minimum = "0",
       .maximum = "1024TiB",
       .description = "Disk: the cold level, of parts and of contexts. 0: none."},
      {.key = "disk.contexts",
       .field = MNEMO_FIELD(SizeField, disk.contexts),
       .default_text = "auto",
       .minimum = "1MiB",
       .maximum = "1024TiB",
       .description = "What embeddings of contexts may take at L3, beside its parts; above "
                      "watermark.high of it, the least important go to the archive."},
      {.key = "disk.direct_reads",
       .field = MNEMO_FIELD(BooleanField, disk.direct_reads),
       .default_text = "false",
       .description = "Reads around the page cache (O_DIRECT), so that only memory.disk_cache "
                      "caches."},
      {.key = "disk.l3",
       .field = MNEMO_FIELD(SizeField, disk.l3),
       .default_text = "auto",
       .minimum = "64MiB",
       .maximum = "1024TiB",
       .description = "L3: parts on fast local disk."},
      {.key = "disk.total",
       .field = MNEMO_FIELD(SizeField, disk.total),
       .default_text = "auto",
       .minimum = "64MiB",
       .maximum = "1024TiB",
       .description = "All disk of the daemon. auto: 80 % of what is free or already its own.",
       .has_flag = true},
      {.key = "wal.interval",
       .field = MNEMO_FIELD(DurationField, wal_interval),
       .default_text = "100ms",
       .minimum = "1ms",
       .maximum = "10s",
       .description = "How often class interval is synced: the most that a power loss costs it."},
  };
}

std::vector<Setting> PlacementSettings() {
  return {
      {.key = "eviction.policy",
       .field = MNEMO_FIELD(ChoiceField, eviction_policy),
       .default_text = "s3fifo",
       .choices = {"s3fifo", "sieve", "lru"},
       .description =
           "Which parts leave a full level first. All keep a chain's ancestors before its "
           "descendants."},
      {.key = "lease.share",
       .field = MNEMO_FIELD(RealField, lease_share),
       .default_text = "0.25",
       .minimum = "0",
       .maximum = "0.5",
       .description = "Share of L1, L2 and L3 that one tenant may hold under leases."},
      {.key = "pin.share",
       .field = MNEMO_FIELD(RealField, pin_share),
       .default_text = "0.5",
       .minimum = "0",
       .maximum = "0.75",
       .description = "Share of the disk levels that may be pinned."},
      {.key = "promote_hits",
       .field = MNEMO_FIELD(IntegerField, promote_hits),
       .default_text = "2",
       .minimum = "1",
       .maximum = "10",
       .description =
           "Uses at a farther level before a part, or a run of a context, comes nearer."},
      {.key = "reservation.max",
       .field = MNEMO_FIELD(DurationField, max_reservation),
       .default_text = "60s",
       .minimum = "1s",
       .maximum = "10m",
       .description = "The longest that an Offer may keep others from writing a part."},
      {.key = "watermark.high",
       .field = MNEMO_FIELD(RealField, high_watermark),
       .default_text = "0.95",
       .minimum = "0.5",
       .maximum = "0.99",
       .description = "Parts, and embeddings of contexts, leave a level above this share of it."},
      {.key = "watermark.low",
       .field = MNEMO_FIELD(RealField, low_watermark),
       .default_text = "0.9",
       .minimum = "0.1",
       .maximum = "0.98",
       .description = "They leave until this share is left; below watermark.high."},
  };
}

std::vector<Setting> UpkeepSettings() {
  return {
      {.key = "upkeep.bytes_per_second",
       .field = MNEMO_FIELD(SizeField, upkeep.bytes_per_second),
       .default_text = "64MiB",
       .minimum = "1MiB",
       .maximum = "1TiB",
       .description = "Embeddings of contexts that are read for summaries or moved between "
                      "levels, a second."},
      {.key = "upkeep.idle_wait",
       .field = MNEMO_FIELD(DurationField, upkeep.idle_wait),
       .default_text = "1s",
       .minimum = "10ms",
       .maximum = "1m",
       .description = "How often contexts are looked after when there was nothing to do."},
      {.key = "upkeep.steps_per_second",
       .field = MNEMO_FIELD(IntegerField, upkeep.steps_per_second),
       .default_text = "1000",
       .minimum = "1",
       .maximum = "1000000",
       .description = "Pieces of work on contexts a second: a block of summaries, a move, a look."},
  };
}

// Of the threads that work in the background.
std::vector<Setting> WorkerSettings() {
  return {
      {.key = "index.duty",
       .field = MNEMO_FIELD(RealField, index_duty),
       .default_text = "0.8",
       .minimum = "0.05",
       .maximum = "1",
       .description = "Share of its time that the thread which indexes contexts works while there "
                      "is work; the rest belongs to calls."},
      {.key = "mover.duty",
       .field = MNEMO_FIELD(RealField, mover.duty),
       .default_text = "0.5",
       .minimum = "0.05",
       .maximum = "1",
       .description = "Share of its time that a thread moves parts while there is work; the rest "
                      "belongs to calls."},
      {.key = "mover.idle_wait",
       .field = MNEMO_FIELD(DurationField, mover.idle_wait),
       .default_text = "1s",
       .minimum = "10ms",
       .maximum = "1m",
       .description = "How often leases, expiry and a full disk are looked after when nothing else "
                      "calls for it."},
      {.key = "mover.threads",
       .field = MNEMO_FIELD(IntegerField, mover.threads),
       .default_text = "1",
       .minimum = "1",
       .maximum = "16",
       .description = "Threads that move parts between levels."},
      {.key = "prefetch.follow",
       .field = MNEMO_FIELD(IntegerField, prefetch.follow),
       .default_text = "16",
       .minimum = "0",
       .maximum = "1024",
       .description =
           "Blocks that follow in a chain are brought into RAM by themselves when one "
           "was read from disk and no match or get waits for a thread: so many. 0: none."},
      {.key = "prefetch.share",
       .field = MNEMO_FIELD(RealField, prefetch.share),
       .default_text = "0.25",
       .minimum = "0.01",
       .maximum = "1",
       .description = "Share of L1 that parts of one tenant may come to which wait to be brought "
                      "into RAM ahead of use."},
      {.key = "prefetch.threads",
       .field = MNEMO_FIELD(IntegerField, prefetch.threads),
       .default_text = "2",
       .minimum = "1",
       .maximum = "64",
       .description = "Threads that bring parts into RAM ahead of use; each waits for the disk, "
                      "and holds one part."},
  };
}

std::vector<Setting> ObjectiveSettings() {
  const std::string_view latency =
      "Objective for the 99th percentile, from decoded request to answer, of one 128 KiB part.";
  const std::string_view hits =
      "Objective for the share of look-ups answered here, of those for what lies here or below. 0: "
      "none.";
  return {
      {.key = "objective.disk.p99",
       .field = MNEMO_FIELD(DurationField, disk_objective.p99),
       .default_text = "100ms",
       .minimum = "1us",
       .maximum = "1m",
       .description = latency},
      {.key = "objective.l1.hit_ratio",
       .field = MNEMO_FIELD(RealField, l1_objective.hit_ratio),
       .default_text = "0.9",
       .minimum = "0",
       .maximum = "1",
       .description = hits},
      {.key = "objective.l1.p99",
       .field = MNEMO_FIELD(DurationField, l1_objective.p99),
       .default_text = "100us",
       .minimum = "1us",
       .maximum = "1m",
       .description = latency},
      {.key = "objective.l2.hit_ratio",
       .field = MNEMO_FIELD(RealField, l2_objective.hit_ratio),
       .default_text = "0.8",
       .minimum = "0",
       .maximum = "1",
       .description = hits},
      {.key = "objective.l2.p99",
       .field = MNEMO_FIELD(DurationField, l2_objective.p99),
       .default_text = "1ms",
       .minimum = "1us",
       .maximum = "1m",
       .description = latency},
      {.key = "objective.l3.hit_ratio",
       .field = MNEMO_FIELD(RealField, l3_objective.hit_ratio),
       .default_text = "0.7",
       .minimum = "0",
       .maximum = "1",
       .description = hits},
      {.key = "objective.l3.p99",
       .field = MNEMO_FIELD(DurationField, l3_objective.p99),
       .default_text = "10ms",
       .minimum = "1us",
       .maximum = "1m",
       .description = latency},
  };
}

std::vector<Setting> GateSettings() {
  return {
      {.key = "gate.batch_threads",
       .field = MNEMO_FIELD(IntegerField, gate.batch_threads),
       .default_text = "4",
       .minimum = "1",
       .maximum = "256",
       .description = "Threads for puts and other bulk work; each may wait for the disk."},
      {.key = "gate.critical_threads",
       .field = MNEMO_FIELD(IntegerField, gate.critical_threads),
       .default_text = "4",
       .minimum = "1",
       .maximum = "256",
       .description = "Threads for matches and gets; each may wait for the disk."},
      {.key = "gate.default_deadline",
       .field = MNEMO_FIELD(DurationField, gate.default_deadline),
       .default_text = "30s",
       .minimum = "100ms",
       .maximum = "1h",
       .description = "Deadline of calls whose client gave none."},
      {.key = "gate.default_threads",
       .field = MNEMO_FIELD(IntegerField, gate.default_threads),
       .default_text = "2",
       .minimum = "1",
       .maximum = "256",
       .description = "Threads for all other calls."},
      {.key = "gate.queue",
       .field = MNEMO_FIELD(IntegerField, gate.queue),
       .default_text = "4096",
       .minimum = "1",
       .maximum = "65536",
       .description = "Calls of a class that may wait for a thread; beyond it a call is "
                      "UNAVAILABLE."},
      {.key = "grpc.max_streams",
       .field = MNEMO_FIELD(IntegerField, grpc_max_streams),
       .default_text = "1024",
       .minimum = "1",
       .maximum = "65536",
       .description = "Calls at once on one connection."},
  };
}

std::vector<Setting> ProcessSettings() {
  return {
      {.key = "log.format",
       .field = MNEMO_FIELD(ChoiceField, log_format),
       .default_text = "text",
       .choices = {"text", "json"},
       .description = "Form of the log on standard error: key=value, or one JSON object a line.",
       .has_flag = true},
      {.key = "log.level",
       .field = MNEMO_FIELD(ChoiceField, log_level),
       .default_text = "info",
       .choices = {"debug", "info", "warning", "error"},
       .description = "Least important lines that are written.",
       .has_flag = true},
      {.key = "shutdown.drain",
       .field = MNEMO_FIELD(DurationField, shutdown_drain),
       .default_text = "10s",
       .minimum = "0",
       .maximum = "10s",
       .description = "How long calls in progress may go on after SIGTERM; then they are "
                      "cancelled. Writing cache parts to disk may take 15 s more."},
  };
}

#undef MNEMO_FIELD

}  // namespace

const std::vector<Setting>& ConfigRegistry() {
  // Constant after the first call; leaked, so that nothing depends on the
  // order of destructors.
  static const auto* const registry = [] {
    auto* settings = new std::vector<Setting>;
    for (const auto& group :
         {AddressSettings(), StreamSettings(), IdentitySettings(), MemorySettings(), DiskSettings(),
          PlacementSettings(), WorkerSettings(), UpkeepSettings(), GateSettings(),
          ObjectiveSettings(), ProcessSettings()}) {
      settings->insert(settings->end(), group.begin(), group.end());
    }
    std::sort(settings->begin(), settings->end(),
              [](const Setting& a, const Setting& b) { return a.key < b.key; });
    return settings;
  }();
  return *registry;
}

}  // namespace mnemo
