// Handlers of AdminService.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "mnemo/v1/admin.grpc.pb.h"
#include "server/engine/admin_engine.h"
#include "server/engine/context_upkeep_figures.h"
#include "server/rpc/unary.h"

namespace mnemo {

// What the node says of itself; implemented where main wires it together.
// Thread-safe.
class NodeFacts {
 public:
  struct Status {
    std::string node_id;
    std::string version;
    uint32_t format_version = 0;
    bool ready = false;
    std::vector<std::string> problems;
    WallTime started;
    uint64_t spaces = 0;
    uint64_t parts = 0;
    uint64_t resident_bytes = 0;
    uint64_t memory_budget_bytes = 0;
    uint64_t disk_budget_bytes = 0;
    uint64_t disk_used_bytes = 0;
    uint64_t disk_free_bytes = 0;
    std::vector<std::string> addresses;
    std::string recovery;
    bool insecure = false;
    ContextUpkeepFigures contexts;
  };
  // Of reads answered at a level, since the start; 0 where there were none.
  struct LevelTimes {
    double p50_us = 0;
    double p99_us = 0;
    double p99_objective_us = 0;
    double hit_ratio_objective = 0;
    double high_watermark = 0;
    double low_watermark = 0;
  };
  struct Setting {
    std::string key;
    std::string value;
    std::string origin;
    std::string description;
  };
  virtual ~NodeFacts() = default;
  virtual Status NodeStatus() const = 0;
  virtual std::array<LevelTimes, kLevelCount> LevelLatencies() const = 0;
  virtual std::vector<Setting> Settings() const = 0;
};

class AdminServiceHandler final : public v1::AdminService::CallbackService {
 public:
  AdminServiceHandler(Gate& gate, AdminEngine& admin, const NodeFacts& node)
      : gate_(gate), admin_(admin), node_(node) {}

  grpc::ServerUnaryReactor* GetNodeStatus(grpc::CallbackServerContext* context,
                                          const v1::GetNodeStatusRequest* request,
                                          v1::GetNodeStatusResponse* response) override;
  grpc::ServerUnaryReactor* ListLevels(grpc::CallbackServerContext* context,
                                       const v1::ListLevelsRequest* request,
                                       v1::ListLevelsResponse* response) override;
  grpc::ServerUnaryReactor* ListTiers(grpc::CallbackServerContext* context,
                                      const v1::ListTiersRequest* request,
                                      v1::ListTiersResponse* response) override;
  grpc::ServerUnaryReactor* ExplainPlacement(grpc::CallbackServerContext* context,
                                             const v1::ExplainPlacementRequest* request,
                                             v1::ExplainPlacementResponse* response) override;
  grpc::ServerUnaryReactor* GetConfig(grpc::CallbackServerContext* context,
                                      const v1::GetConfigRequest* request,
                                      v1::GetConfigResponse* response) override;

 private:
  Gate& gate_;
  AdminEngine& admin_;
  const NodeFacts& node_;
};

}  // namespace mnemo
