// The rooms wired together, from the store up to the listeners.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/audit_log.h"
#include "server/config/config.h"
#include "server/credential_files.h"
#include "server/engine/admin_engine.h"
#include "server/engine/block_engine.h"
#include "server/engine/event_hub.h"
#include "server/engine/space_engine.h"
#include "server/engine/stored_context_engine.h"
#include "server/gate/gate.h"
#include "server/identity/identity_admin.h"
#include "server/identity/identity_book.h"
#include "server/identity/tls_material.h"
#include "server/observe/announce.h"
#include "server/observe/health.h"
#include "server/observe/http_server.h"
#include "server/observe/log.h"
#include "server/observe/metrics.h"
#include "server/observe/scrape.h"
#include "server/observe/status_page.h"
#include "server/periodic_task.h"
#include "server/rpc/admin_service.h"
#include "server/rpc/server.h"
#include "server/stream_counts.h"
#include "server/transfer/stream_server.h"
#include "server/workers/context_upkeep.h"
#include "server/workers/mover_pool.h"
#include "server/workers/prefetch_pool.h"
#include "storage/base/file_system.h"
#include "storage/block/block_store.h"
#include "storage/block/space_registry.h"
#include "storage/context/context_store.h"

namespace mnemo {

// A running daemon. Start and Stop from one thread.
class Daemon {
 public:
  // Opens the data directory, recovers, and serves. Probes answer from the
  // first moment on; everything else once it is ready. `files` and `clock`
  // outlive the daemon, and so does `log`. Errors carry the exit code
  // (server/exit_code.h).
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const LoadedConfig& loaded,
                                                       FileSystem& files, Clock& clock,
                                                       Logger& log);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  const BoundAddresses& bound() const { return bound_; }

  // Not ready at once; takes no new calls; lets those in progress end until
  // shutdown.drain has passed and cancels the rest; then flushes, syncs and
  // closes. Idempotent. Errors: of the close; what was acknowledged as durable
  // is safe all the same.
  absl::Status Stop();

 private:
  class Facts;
  class RpcMetrics;
  class SharedArchive;

  Daemon(const LoadedConfig& loaded, FileSystem& files, Clock& clock, Logger& log);

  absl::Status StartProbes();
  absl::Status OpenStore();
  absl::Status OpenIdentity();
  // Takes over what changed in the files of credentials.
  void ReloadCredentials();
  void OpenContexts();
  // Gives back what deleted contexts left, until nothing is left of them.
  void EraseContexts();
  // Takes one step of building indexes; returns how long to rest after it.
  Nanos IndexContexts();
  void StartWorkers();
  void StartUpkeep();
  void OpenGate();
  absl::Status StartStreams();
  absl::Status StartRpc();
  absl::Status StartPages();
  // What is wrong although the daemon runs, looked at once in a while.
  void CheckProblems();
  NodeFigures Figures() const;
  NodeDescription Describe() const;
  std::vector<std::string> Addresses() const;

  const Config config_;
  const std::vector<ConfigEntry> settings_;
  FileSystem& files_;
  Clock& clock_;
  Logger& log_;
  const WallTime started_;
  const std::unique_ptr<prometheus::Registry> registry_;
  Metrics metrics_;
  AuditLog audit_;
  Health health_;
  const std::unique_ptr<FileSystem> measured_files_;
  BoundAddresses bound_;
  bool stopped_ = false;

  // In the order of their dependencies; destroyed from the last.
  std::unique_ptr<HttpServer> probes_;
  EventHub events_;
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<IdentityBook> identity_;
  std::unique_ptr<IdentityAdmin> identity_admin_;
  TicketBook tickets_;
  std::unique_ptr<TlsMaterial> tls_;  // null: no TLS
  std::unique_ptr<CredentialFiles> credentials_;
  std::unique_ptr<PeriodicTask> reloads_;
  std::unique_ptr<SpaceRegistry> spaces_;
  std::unique_ptr<SpaceEngine> space_engine_;
  std::unique_ptr<BlockEngine> block_engine_;
  std::unique_ptr<ContextStore> contexts_;
  std::unique_ptr<StoredContextEngine> context_engine_;
  std::unique_ptr<AdminEngine> admin_engine_;
  std::unique_ptr<MoverPool> movers_;
  std::unique_ptr<PrefetchPool> prefetchers_;
  std::unique_ptr<PeriodicTask> reservations_;
  std::unique_ptr<PeriodicTask> erasures_;
  std::unique_ptr<ArchiveBudget> archive_budget_;
  std::unique_ptr<ContextUpkeep> upkeep_;
  std::unique_ptr<PeriodicTask> upkeep_steps_;
  std::unique_ptr<PeriodicTask> indexing_;
  std::unique_ptr<RpcMetrics> rpc_metrics_;
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<Facts> facts_;
  StreamCounts stream_counts_;
  std::unique_ptr<RegionLedger> regions_;
  std::unique_ptr<RpcServer> rpc_;
  std::unique_ptr<StreamServer> streams_;  // null: none
  std::unique_ptr<Scrape> scrape_;
  std::unique_ptr<StatusPage> page_;
  std::unique_ptr<HttpServer> pages_;
  std::unique_ptr<PeriodicTask> problems_;
};

}  // namespace mnemo
