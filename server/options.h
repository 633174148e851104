// The configuration as the options of each room.
#pragma once

#include "server/config/config.h"
#include "server/engine/prefetch_queue.h"
#include "server/engine/stored_context_engine.h"
#include "server/gate/gate.h"
#include "server/identity/identity_book.h"
#include "server/identity/tls_material.h"
#include "server/observe/node_figures.h"
#include "server/rpc/server.h"
#include "server/transfer/region_table.h"
#include "server/transfer/stream_server.h"
#include "server/workers/context_upkeep.h"
#include "server/workers/mover_pool.h"
#include "storage/block/block_store.h"
#include "storage/context/context_store.h"

namespace mnemo {

BlockStoreOptions MakeBlockStoreOptions(const Config& config);
ContextStoreOptions MakeContextStoreOptions(const Config& config);
ContextEngineOptions MakeContextEngineOptions(const Config& config);
// Of `tls.*`; `certificate` is empty without TLS.
TlsFiles MakeTlsFiles(const Config& config);
IdentityOptions MakeIdentityOptions(const Config& config);
GateOptions MakeGateOptions(const Config& config);
RpcServerOptions MakeRpcServerOptions(const Config& config);
// Of `streams.*`; `unix_socket` is empty for a node without streams. Errors:
// kInvalidArgument (streams.socket_mode is not octal).
absl::StatusOr<StreamServerOptions> MakeStreamServerOptions(const Config& config);
RegionLimits MakeRegionLimits(const Config& config);
MoverPoolOptions MakeMoverPoolOptions(const Config& config);
PrefetchOptions MakePrefetchOptions(const Config& config);
ContextUpkeepOptions MakeContextUpkeepOptions(const Config& config);
LevelObjectives MakeLevelObjectives(const Config& config);

// What the rooms say of their options. Errors: kInvalidArgument.
absl::Status CheckOptions(const Config& config);

}  // namespace mnemo
