#include "server/daemon.h"

#include <fmt/format.h>
#include <prometheus/registry.h>

#include <algorithm>
#include <utility>

#include "server/exit_code.h"
#include "server/observe/measured_file_system.h"
#include "server/options.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "storage/tier/data_directory.h"

namespace mnemo {
namespace {

constexpr Nanos kReservationInterval = std::chrono::seconds(1);
// How often what deleted contexts left is looked for.
constexpr Nanos kErasureInterval = std::chrono::seconds(1);
// How often contexts are looked at that may want to be indexed, and the longest
// rest after a step.
constexpr Nanos kIndexInterval = std::chrono::milliseconds(200);
constexpr Nanos kLongestIndexRest = std::chrono::seconds(5);
constexpr Nanos kProblemInterval = std::chrono::seconds(5);
constexpr Nanos kCertificateWarning = std::chrono::hours(7 * 24);
constexpr Nanos kCredentialInterval = std::chrono::seconds(1);
// Below this share of the file system, compaction may soon want for room.
constexpr double kLeastFreeShare = 0.05;
// The bound of resident memory over memory.total.
constexpr double kMostResident = 1.15;

std::vector<std::string> MethodNames() {
  std::vector<std::string> names;
  for (const MethodRule& rule : AllMethodRules()) names.emplace_back(rule.method);
  return names;
}

double Micros(Nanos duration) { return static_cast<double>(duration.count()) / 1e3; }

HttpResponse Probe(bool good, std::string_view phase) {
  return {.status = good ? 200 : 503, .body = fmt::format("{}\n", phase)};
}

}  // namespace

// What AdminService asks of the node.
class Daemon::Facts final : public NodeFacts {
 public:
  explicit Facts(const Daemon& daemon) : daemon_(daemon) {}

  Status NodeStatus() const override {
    const NodeFigures figures = daemon_.Figures();
    const NodeDescription description = daemon_.Describe();
    return {.node_id = description.node_id,
            .version = description.version,
            .format_version = description.format_version,
            .ready = daemon_.health_.ready(),
            .problems = daemon_.health_.problems(),
            .started = description.started,
            .spaces = figures.spaces,
            .parts = figures.parts,
            .resident_bytes = ReadProcess().resident_bytes,
            .memory_budget_bytes = figures.memory_budget_bytes,
            .disk_budget_bytes = figures.disk_budget_bytes,
            .disk_used_bytes = figures.disk_used_bytes,
            .disk_free_bytes = figures.disk_free_bytes,
            .addresses = description.addresses,
            .recovery = description.recovery,
            .insecure = description.insecure,
            .contexts = figures.contexts};
  }

  std::array<LevelTimes, kLevelCount> LevelLatencies() const override {
    const LevelObjectives objectives = MakeLevelObjectives(daemon_.config_);
    std::array<LevelTimes, kLevelCount> levels;
    for (size_t i = 0; i < kLevelCount; ++i) {
      const LatencyHistogram::Snapshot times = daemon_.metrics_.ReadTimes(static_cast<Level>(i));
      levels[i] = {.p50_us = Micros(times.Quantile(0.5)),
                   .p99_us = Micros(times.Quantile(0.99)),
                   .p99_objective_us = Micros(objectives[i].p99),
                   .hit_ratio_objective = objectives[i].hit_ratio,
                   .high_watermark = daemon_.config_.high_watermark,
                   .low_watermark = daemon_.config_.low_watermark};
    }
    return levels;
  }

  std::vector<Setting> Settings() const override {
    std::vector<Setting> settings;
    for (const ConfigEntry& entry : daemon_.settings_) {
      settings.push_back({entry.key, entry.value, entry.origin, entry.description});
    }
    return settings;
  }

 private:
  const Daemon& daemon_;
};

// What the gate tells, as metrics and as lines of the log.
class Daemon::RpcMetrics final : public RpcObserver {
 public:
  RpcMetrics(Metrics& metrics, AuditLog& audit) : metrics_(metrics), audit_(audit) {}
  void OnQueued(CallClass call_class, Nanos delay) override {
    metrics_.OnQueued(call_class, delay);
  }
  void OnShed(CallClass call_class, std::string_view reason) override {
    metrics_.OnShed(call_class, reason);
  }
  void OnFinished(const MethodRule& rule, absl::StatusCode code, Nanos took) override {
    metrics_.OnFinished(rule.method, rule.call_class, code, took);
  }
  void OnAuthenticated(AuthOutcome outcome) override { metrics_.OnAuthenticated(outcome); }
  void OnRefused(const RefusedCall& call) override { audit_.Refused(call); }

 private:
  Metrics& metrics_;
  AuditLog& audit_;
};

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const LoadedConfig& loaded, FileSystem& files,
                                                      Clock& clock, Logger& log) {
  std::unique_ptr<Daemon> daemon(new Daemon(loaded, files, clock, log));
  MNEMO_RETURN_IF_ERROR(daemon->StartProbes());
  MNEMO_RETURN_IF_ERROR(daemon->OpenStore());
  MNEMO_RETURN_IF_ERROR(daemon->OpenIdentity());
  daemon->StartWorkers();
  daemon->OpenGate();
  // Calls of gRPC tell where streams are.
  MNEMO_RETURN_IF_ERROR(daemon->StartStreams());
  MNEMO_RETURN_IF_ERROR(daemon->StartRpc());
  MNEMO_RETURN_IF_ERROR(daemon->StartPages());
  daemon->rpc_->SetReady(true);
  daemon->health_.SetReady();
  daemon->problems_ = std::make_unique<PeriodicTask>(
      kProblemInterval, [running = daemon.get()] { running->CheckProblems(); });
  return daemon;
}

Daemon::Daemon(const LoadedConfig& loaded, FileSystem& files, Clock& clock, Logger& log)
    : config_(loaded.config),
      settings_(loaded.entries),
      files_(files),
      clock_(clock),
      log_(log),
      started_(clock.Wall()),
      registry_(std::make_unique<prometheus::Registry>()),
      metrics_(*registry_, MethodNames()),
      audit_(log, clock),
      measured_files_(
          MakeMeasuredFileSystem(files, clock, [this](Nanos took) { metrics_.OnLogSync(took); })),
      // Above every sequence of an earlier run, as long as fewer than one event
      // a nanosecond was published in it.
      events_(static_cast<uint64_t>(std::max<int64_t>(started_.nanos, 0))),
      tickets_(TicketOptions(), clock) {}

Daemon::~Daemon() {
  if (absl::Status status = Stop(); !status.ok()) {
    log_.Error("close-failed", {{"reason", std::string(status.message())}});
  }
}

absl::Status Daemon::StartProbes() {
  if (config_.probe_listen.empty()) return absl::OkStatus();
  using Phase = Health::Phase;
  const std::map<std::string, HttpServer::Handler> routes = {
      {"/livez", [] { return Probe(true, "alive"); }},
      {"/startupz",
       [this] {
         const Phase phase = health_.phase();
         return Probe(phase != Phase::kStarting, PhaseName(phase));
       }},
      {"/readyz", [this] {
         const Phase phase = health_.phase();
         return Probe(phase == Phase::kReady, PhaseName(phase));
       }}};
  absl::StatusOr<std::unique_ptr<HttpServer>> server =
      HttpServer::Start({.address = config_.probe_listen}, routes);
  if (!server.ok()) return WithExitCode(server.status(), ExitCode::kAddress);
  probes_ = *std::move(server);
  bound_.probes = probes_->address();
  return absl::OkStatus();
}

absl::Status Daemon::OpenStore() {
  absl::StatusOr<std::unique_ptr<BlockStore>> store =
      BlockStore::Open(MakeBlockStoreOptions(config_), *measured_files_, clock_,
                       [this](const PartEvent& event) { events_.Publish(event); });
  if (!store.ok()) return WithExitCode(store.status(), ExitCodeOfOpen(store.status()));
  store_ = *std::move(store);
  absl::StatusOr<std::unique_ptr<SpaceRegistry>> spaces =
      SpaceRegistry::Load(store_->state(), clock_);
  if (!spaces.ok()) return WithExitCode(spaces.status(), ExitCodeOfOpen(spaces.status()));
  spaces_ = *std::move(spaces);
  store_->UseSpaces([this](KeyScope scope) -> std::shared_ptr<const Space> {
    return spaces_->ById(scope.tenant, scope.space).value_or(nullptr);
  });
  space_engine_ = std::make_unique<SpaceEngine>(*spaces_, *store_, events_);
  block_engine_ = std::make_unique<BlockEngine>(*space_engine_, *store_, events_, clock_, metrics_,
                                                MakePrefetchOptions(config_));
  OpenContexts();
  admin_engine_ = std::make_unique<AdminEngine>(*space_engine_, *store_);
  const BlockStore::Recovery& recovery = store_->recovery();
  log_.Info("opened", {{"data_dir", config_.data_dir},
                       {"node", store_->node_id()},
                       {"spaces", spaces_->size()},
                       {"parts", recovery.parts},
                       {"clean", recovery.clean},
                       {"took_ms", (clock_.Wall().nanos - started_.nanos) / 1'000'000}});
  if (!recovery.clean) log_.Warning("recovered", {{"detail", recovery.detail}});
  return absl::OkStatus();
}

absl::Status Daemon::OpenIdentity() {
  absl::StatusOr<std::unique_ptr<IdentityBook>> book =
      IdentityBook::Load(MakeIdentityOptions(config_), store_->state(), clock_);
  if (!book.ok()) return WithExitCode(book.status(), ExitCodeOfOpen(book.status()));
  identity_ = *std::move(book);
  identity_admin_ = std::make_unique<IdentityAdmin>(
      *identity_, clock_, [this](const IdentityChange& change) { audit_.Changed(change); });
  if (const TlsFiles tls = MakeTlsFiles(config_); !tls.certificate.empty()) {
    absl::StatusOr<std::unique_ptr<TlsMaterial>> material = TlsMaterial::Load(tls, files_, clock_);
    if (!material.ok()) return WithExitCode(material.status(), ExitCode::kConfig);
    tls_ = *std::move(material);
  }
  credentials_ =
      std::make_unique<CredentialFiles>(config_.auth.file, files_, *identity_, tls_.get());
  // A file that was good once may be bad for a while; at the start nothing is in force.
  const absl::Status read = credentials_->Reload();
  if (!read.ok()) return WithExitCode(read, ExitCode::kConfig);
  if (!config_.auth.file.empty() || tls_) {
    reloads_ = std::make_unique<PeriodicTask>(kCredentialInterval, [this] { ReloadCredentials(); });
  }
  return absl::OkStatus();
}

void Daemon::ReloadCredentials() {
  const uint64_t before = credentials_->generation();
  const absl::Status earlier = credentials_->last();
  const absl::Status status = credentials_->Reload();
  if (!status.ok() && status != earlier) {
    log_.Warning("credentials-not-reloaded", {{"reason", std::string(status.message())}});
  }
  if (credentials_->generation() != before) log_.Info("credentials-reloaded");
}

void Daemon::OpenContexts() {
  const ContextStores stores{
      .sync = store_->ordered_store(Level::kL3, Durability::kSync),
      .interval = store_->ordered_store(Level::kL3, Durability::kInterval),
      .sync_archive = store_->ordered_store(Level::kDisk, Durability::kSync),
      .interval_archive = store_->ordered_store(Level::kDisk, Durability::kInterval)};
  contexts_ = std::make_unique<ContextStore>(stores, clock_, MakeContextStoreOptions(config_));
  context_engine_ = std::make_unique<StoredContextEngine>(*contexts_, *space_engine_, clock_,
                                                          MakeContextEngineOptions(config_));
}

void Daemon::EraseContexts() {
  absl::StatusOr<bool> more = true;
  while (more.ok() && *more && health_.phase() != Health::Phase::kStopping) {
    more = contexts_->EraseStep();
  }
  if (!more.ok()) {
    log_.Warning("erasure-failed", {{"reason", std::string(more.status().message())}});
  }
}

Nanos Daemon::IndexContexts() {
  const MonoTime began = clock_.Mono();
  const absl::StatusOr<bool> more = context_engine_->IndexStep();
  if (!more.ok()) {
    log_.Warning("indexing-failed", {{"reason", std::string(more.status().message())}});
    return kLongestIndexRest;
  }
  if (!*more) return kIndexInterval;
  const std::chrono::duration<double> worked = clock_.Mono() - began;
  return std::min(std::chrono::duration_cast<Nanos>(worked * (1 / config_.index_duty - 1)),
                  kLongestIndexRest);
}

void Daemon::StartWorkers() {
  movers_ = std::make_unique<MoverPool>(*store_, MakeMoverPoolOptions(config_));
  reservations_ = std::make_unique<PeriodicTask>(kReservationInterval,
                                                 [this] { block_engine_->ExpireReservations(); });
  erasures_ = std::make_unique<PeriodicTask>(kErasureInterval, [this] { EraseContexts(); });
  indexing_ =
      std::make_unique<PeriodicTask>(std::function<Nanos()>([this] { return IndexContexts(); }));
  StartUpkeep();
}

// What embeddings and parts may take of the archive together.
class Daemon::SharedArchive final : public ArchiveBudget {
 public:
  explicit SharedArchive(BlockStore& store) : store_(store) {}
  void Count(uint64_t bytes) override { store_.CountContexts(bytes); }
  uint64_t free_bytes() const override { return store_.archive_free_bytes(); }

 private:
  BlockStore& store_;
};

void Daemon::StartUpkeep() {
  archive_budget_ = std::make_unique<SharedArchive>(*store_);
  // One line for each new reason: a full disk is met again every second.
  const auto log_new = [this, last = absl::Status()](const absl::Status& failure) mutable {
    if (std::exchange(last, failure) == failure) return;
    log_.Warning("context-upkeep-failed", {{"reason", std::string(failure.message())}});
  };
  upkeep_ = std::make_unique<ContextUpkeep>(*contexts_, clock_, MakeContextUpkeepOptions(config_),
                                            archive_budget_.get(), log_new);
  upkeep_steps_ = std::make_unique<PeriodicTask>([this] { return upkeep_->Step(); });
}

void Daemon::OpenGate() {
  rpc_metrics_ = std::make_unique<RpcMetrics>(metrics_, audit_);
  gate_ = std::make_unique<Gate>(MakeGateOptions(config_), *identity_, clock_, *rpc_metrics_);
  block_engine_->prefetches().FollowOnlyWhile(
      [this] { return gate_->queued(CallClass::kCritical) == 0; });
  prefetchers_ = std::make_unique<PrefetchPool>(*store_, block_engine_->prefetches(),
                                                static_cast<size_t>(config_.prefetch.threads));
}

absl::Status Daemon::StartRpc() {
  facts_ = std::make_unique<Facts>(*this);
  RpcServerOptions options = MakeRpcServerOptions(config_);
  options.tls = tls_.get();
  options.stream_address = bound_.streams_tcp;
  absl::StatusOr<std::unique_ptr<RpcServer>> server =
      RpcServer::Start(options, *gate_,
                       {.spaces = *space_engine_,
                        .blocks = *block_engine_,
                        .contexts = *context_engine_,
                        .admin = *admin_engine_,
                        .identity = *identity_admin_,
                        .node = *facts_,
                        .tickets = tickets_});
  if (!server.ok()) return WithExitCode(server.status(), ExitCode::kAddress);
  rpc_ = *std::move(server);
  bound_.grpc = rpc_->bound_addresses().front();
  bound_.unix_socket = config_.unix_socket;
  return absl::OkStatus();
}

absl::Status Daemon::StartStreams() {
  if (config_.streams.unix_socket.empty() && config_.streams.listen.empty()) {
    return absl::OkStatus();
  }
  MNEMO_ASSIGN_OR_RETURN(StreamServerOptions options, MakeStreamServerOptions(config_));
  options.tls = tls_.get();
  regions_ = std::make_unique<RegionLedger>(MakeRegionLimits(config_));
  absl::StatusOr<std::unique_ptr<StreamServer>> server =
      StreamServer::Start(options, {.gate = *gate_,
                                    .blocks = *block_engine_,
                                    .identity = *identity_,
                                    .tickets = tickets_,
                                    .regions = *regions_,
                                    .observer = stream_counts_});
  if (!server.ok()) return WithExitCode(server.status(), ExitCode::kAddress);
  streams_ = *std::move(server);
  bound_.streams = config_.streams.unix_socket;
  bound_.streams_tcp = streams_->tcp_address();
  return absl::OkStatus();
}

absl::Status Daemon::StartPages() {
  if (config_.metrics_listen.empty()) return absl::OkStatus();
  // The pages name every address, this one too, so they are made once it is
  // bound; being ready comes after that.
  const auto when_started = [this](const HttpServer::Handler& page) -> HttpServer::Handler {
    return [this, page] {
      return health_.phase() == Health::Phase::kStarting ? Probe(false, "starting") : page();
    };
  };
  const std::map<std::string, HttpServer::Handler> routes = {
      {"/", when_started([this] { return page_->Html(); })},
      {"/status.json", when_started([this] { return page_->Json(); })},
      {"/metrics", when_started([this] {
         return HttpResponse{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                             .body = scrape_->Text()};
       })}};
  absl::StatusOr<std::unique_ptr<HttpServer>> server =
      HttpServer::Start({.address = config_.metrics_listen}, routes);
  if (!server.ok()) return WithExitCode(server.status(), ExitCode::kAddress);
  pages_ = *std::move(server);
  bound_.metrics = pages_->address();
  const FiguresSource figures = [this] { return Figures(); };
  scrape_ = std::make_unique<Scrape>(*registry_, metrics_, health_, Describe(), figures);
  page_ = std::make_unique<StatusPage>(metrics_, health_, clock_, Describe(), figures);
  return absl::OkStatus();
}

void Daemon::CheckProblems() {
  const NodeFigures figures = Figures();
  const absl::StatusOr<FileSystem::Space> space = files_.FreeSpace(config_.data_dir);
  std::string disk;
  if (!space.ok()) {
    disk = std::string(space.status().message());
  } else if (static_cast<double>(space->free_bytes) <
             kLeastFreeShare * static_cast<double>(space->total_bytes)) {
    disk = fmt::format("disk: only {} of {} free at data_dir", FormatByteSize(space->free_bytes),
                       FormatByteSize(space->total_bytes));
  }
  const uint64_t resident = ReadProcess().resident_bytes;
  std::string memory;
  if (static_cast<double>(resident) > kMostResident * static_cast<double>(config_.memory.total)) {
    memory = fmt::format("memory: {} resident, more than 1.15 times memory.total {}",
                         FormatByteSize(resident), FormatByteSize(config_.memory.total));
  }
  const BlockStoreCounters& counters = figures.counters;
  const uint64_t corrupt =
      counters.corrupt_l1 + counters.corrupt_l2 + counters.corrupt_l3 + counters.corrupt_archive;
  const std::string corruption =
      corrupt == 0
          ? ""
          : fmt::format("corruption: {} parts failed their checksum since the start", corrupt);
  const absl::Status reloaded = credentials_->last();
  const std::string credentials =
      reloaded.ok() ? "" : fmt::format("credentials: {}", std::string(reloaded.message()));
  std::string certificate;
  if (tls_ && tls_->expires().nanos - clock_.Wall().nanos < kCertificateWarning.count()) {
    certificate = "certificate: tls.certificate ends within 7 days, or has ended";
  }
  const std::pair<const char*, const std::string&> all[] = {{"disk", disk},
                                                            {"memory", memory},
                                                            {"corruption", corruption},
                                                            {"credentials", credentials},
                                                            {"certificate", certificate}};
  for (const auto& [name, text] : all) {
    switch (health_.SetProblem(name, text)) {
      case Health::Change::kNew:
        log_.Warning("problem", {{"about", name}, {"text", text}});
        break;
      case Health::Change::kMended:
        log_.Info("problem-mended", {{"about", name}});
        break;
      case Health::Change::kNone:
        break;
    }
  }
}

NodeFigures Daemon::Figures() const {
  NodeFigures figures{.levels = store_->Levels(),
                      .counters = store_->counters(),
                      .reencoding_parts_left = store_->ReencodingPartsLeft(),
                      .codecs = store_->Codecs(),
                      .contexts = upkeep_->figures(),
                      .parts = store_->parts(),
                      .spaces = spaces_->size(),
                      .index = context_engine_->index_figures(),
                      .inflight_bytes = gate_->bytes().used(),
                      .inflight_capacity_bytes = gate_->bytes().capacity(),
                      .memory_budget_bytes = config_.memory.total,
                      .disk_budget_bytes = config_.disk.total};
  for (const Level level : {Level::kL3, Level::kDisk}) {
    figures.disk_used_bytes += figures.levels[static_cast<size_t>(level)].stats.used_bytes;
  }
  const absl::StatusOr<FileSystem::Space> space = files_.FreeSpace(config_.data_dir);
  if (space.ok()) figures.disk_free_bytes = space->free_bytes;
  figures.prefetches = block_engine_->prefetches().figures();
  figures.streams = stream_counts_.Figures(regions_.get());
  if (tls_) figures.certificate_expires = tls_->expires();
  return figures;
}

NodeDescription Daemon::Describe() const {
  return {.version = MNEMO_VERSION,
          .format_version = kDataDirectoryFormat,
          .node_id = store_->node_id(),
          .started = started_,
          .insecure = IsOpenToAnybody(config_),
          .addresses = Addresses(),
          .recovery = store_->recovery().detail,
          .objectives = MakeLevelObjectives(config_)};
}

std::vector<std::string> Daemon::Addresses() const {
  std::vector<std::string> addresses;
  const std::pair<const char*, const std::string&> all[] = {
      {"grpc", bound_.grpc},       {"unix", bound_.unix_socket},
      {"streams", bound_.streams}, {"streams_tcp", bound_.streams_tcp},
      {"metrics", bound_.metrics}, {"probes", bound_.probes}};
  for (const auto& [name, address] : all) {
    if (!address.empty()) addresses.push_back(fmt::format("{}={}", name, address));
  }
  return addresses;
}

absl::Status Daemon::Stop() {
  if (stopped_) return absl::OkStatus();
  stopped_ = true;
  health_.SetStopping();
  const MonoTime drained = clock_.Mono() + config_.shutdown_drain;
  if (rpc_) rpc_->Shutdown(config_.shutdown_drain);
  if (streams_) streams_->Shutdown(std::max(drained - clock_.Mono(), Nanos(0)));
  if (gate_) gate_->Shutdown();
  problems_.reset();
  reloads_.reset();
  pages_.reset();
  reservations_.reset();
  erasures_.reset();
  upkeep_steps_.reset();
  if (context_engine_) context_engine_->StopIndexing();
  indexing_.reset();
  if (prefetchers_) prefetchers_->Stop();
  if (movers_) movers_->Stop();
  absl::Status closed;
  if (store_) closed = store_->Close();
  probes_.reset();
  return closed;
}

}  // namespace mnemo
