#include "server/rpc/admin_service.h"

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

void FillLevel(Level level, const LevelFigures& figures, const NodeFacts::LevelTimes& times,
               v1::LevelInfo* out) {
  out->set_level(ToProto(level));
  out->set_label(std::string(LevelLabel(level)));
  out->set_capacity_bytes(figures.stats.capacity_bytes);
  out->set_used_bytes(figures.stats.used_bytes);
  out->set_live_bytes(figures.stats.live_bytes);
  out->set_exact_bytes(figures.exact_bytes);
  out->set_parts(figures.parts);
  out->set_lookups(figures.lookups);
  out->set_hits(figures.hits);
  if (figures.lookups != 0) {
    out->set_hit_ratio(static_cast<double>(figures.hits) / static_cast<double>(figures.lookups));
  }
  out->set_demoted(figures.demoted);
  out->set_promoted(figures.promoted);
  out->set_evicted(figures.evicted);
  out->set_hit_ratio_objective(times.hit_ratio_objective);
  out->set_p50_us(times.p50_us);
  out->set_p99_us(times.p99_us);
  out->set_p99_objective_us(times.p99_objective_us);
  out->set_high_watermark(times.high_watermark);
  out->set_low_watermark(times.low_watermark);
}

void FillStatus(const NodeFacts::Status& status, v1::GetNodeStatusResponse* out) {
  out->set_node_id(status.node_id);
  out->set_version(status.version);
  out->set_format_version(status.format_version);
  out->set_ready(status.ready);
  for (const std::string& problem : status.problems) out->add_problems(problem);
  out->set_started_unix_us(status.started.nanos / 1000);
  out->set_spaces(status.spaces);
  out->set_parts(status.parts);
  out->set_resident_bytes(status.resident_bytes);
  out->set_memory_budget_bytes(status.memory_budget_bytes);
  out->set_disk_budget_bytes(status.disk_budget_bytes);
  out->set_disk_used_bytes(status.disk_used_bytes);
  out->set_disk_free_bytes(status.disk_free_bytes);
  for (const std::string& address : status.addresses) out->add_addresses(address);
  out->set_recovery(status.recovery);
  out->set_insecure(status.insecure);
  out->set_context_l3_bytes(status.contexts.l3.bytes);
  out->set_context_l3_capacity_bytes(status.contexts.l3_capacity_bytes);
  out->set_context_archive_bytes(status.contexts.archive.bytes);
  out->set_contexts_waiting(status.contexts.waiting);
}

}  // namespace

grpc::ServerUnaryReactor* AdminServiceHandler::GetNodeStatus(grpc::CallbackServerContext* context,
                                                             const v1::GetNodeStatusRequest*,
                                                             v1::GetNodeStatusResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.AdminService/GetNodeStatus"), context,
                          [this, response](const CallContext&) {
                            FillStatus(node_.NodeStatus(), response);
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* AdminServiceHandler::ListLevels(grpc::CallbackServerContext* context,
                                                          const v1::ListLevelsRequest*,
                                                          v1::ListLevelsResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.AdminService/ListLevels"), context,
                          [this, response](const CallContext&) {
                            const auto figures = admin_.Levels();
                            const auto times = node_.LevelLatencies();
                            for (size_t i = 0; i < kLevelCount; ++i) {
                              FillLevel(static_cast<Level>(i), figures[i], times[i],
                                        response->add_levels());
                            }
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* AdminServiceHandler::ListTiers(grpc::CallbackServerContext* context,
                                                         const v1::ListTiersRequest*,
                                                         v1::ListTiersResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.AdminService/ListTiers"), context,
                          [this, response](const CallContext&) {
                            for (const TierRow& row : admin_.Tiers()) {
                              ToProto(row, response->add_tiers());
                            }
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* AdminServiceHandler::ExplainPlacement(
    grpc::CallbackServerContext* context, const v1::ExplainPlacementRequest* request,
    v1::ExplainPlacementResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.AdminService/ExplainPlacement"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(
                                const auto placements,
                                admin_.Explain(call, FromProto(request->space()), request->salt(),
                                               request->key(), request->stretch()));
                            for (const Placement& placement : placements) {
                              ToProto(placement, response->add_parts());
                            }
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* AdminServiceHandler::GetConfig(grpc::CallbackServerContext* context,
                                                         const v1::GetConfigRequest*,
                                                         v1::GetConfigResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.AdminService/GetConfig"), context,
                          [this, response](const CallContext&) {
                            for (const NodeFacts::Setting& setting : node_.Settings()) {
                              v1::ConfigEntry* entry = response->add_entries();
                              entry->set_key(setting.key);
                              entry->set_value(setting.value);
                              entry->set_origin(setting.origin);
                              entry->set_description(setting.description);
                            }
                            return absl::OkStatus();
                          });
}

}  // namespace mnemo
