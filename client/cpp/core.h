// What all calls of a client share: connections, retry budget, and the count
// of calls that are still out.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <atomic>
#include <memory>
#include <random>
#include <vector>

#include "client/cpp/calibrations.h"
#include "client/cpp/cancel.h"
#include "client/cpp/fetch_meter.h"
#include "client/cpp/lane.h"
#include "client/cpp/retry.h"
#include "mnemo/options.h"
#include "mnemo/v1/admin.grpc.pb.h"
#include "mnemo/v1/auth.grpc.pb.h"
#include "mnemo/v1/block.grpc.pb.h"
#include "mnemo/v1/context.grpc.pb.h"
#include "mnemo/v1/space.grpc.pb.h"
#include "mnemo/v1/stream.grpc.pb.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

// One connection with the stubs over it. Thread-safe.
struct Connection {
  explicit Connection(std::shared_ptr<grpc::Channel> to);

  const std::shared_ptr<grpc::Channel> channel;  // gRPC's stubs share it
  const std::unique_ptr<v1::SpaceService::Stub> spaces;
  const std::unique_ptr<v1::BlockService::Stub> blocks;
  const std::unique_ptr<v1::ContextService::Stub> contexts;
  const std::unique_ptr<v1::AdminService::Stub> admin;
  const std::unique_ptr<v1::AuthService::Stub> auth;
  const std::unique_ptr<v1::StreamService::Stub> streams;
};

// Thread-safe.
class Core {
 public:
  explicit Core(const ClientOptions& options);
  // Waits until no call is out.
  ~Core();

  const ClientOptions& options() const { return options_; }
  RetryBudget& budget() { return budget_; }
  // What reads took, inline and by streams.
  FetchMeter& meter() { return meter_; }
  FetchMeter& lane_meter(Plane plane) { return plane == Plane::kBulk ? bulk_meter_ : lane_meter_; }
  CalibrationCache& calibrations() { return calibrations_; }
  Lane& lane() { return lane_; }
  // What every call shows: call it for each new context.
  void ShowToken(grpc::ClientContext& context) const;
  // Connections in turn.
  Connection& NextConnection();
  // Uniform in [0, 1).
  double Random();

  // Every call stands here from its start to its end, so that the destructor
  // can cancel it and wait for it. After Forget it is not cancelled any more;
  // after End, which is called when all of the call is destroyed, the core may
  // be gone.
  void Begin(Cancellable& call);
  void Forget(Cancellable& call);
  void End();

 private:
  const ClientOptions options_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::atomic<uint32_t> turn_{0};
  RetryBudget budget_;
  FetchMeter meter_;
  FetchMeter lane_meter_;
  FetchMeter bulk_meter_;
  CalibrationCache calibrations_;
  CancelSource::Impl all_;
  Lane lane_;

  Mutex mutex_;
  CondVar ended_;
  int outstanding_ ABSL_GUARDED_BY(mutex_) = 0;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_){std::random_device{}()};
};

}  // namespace mnemo::client
