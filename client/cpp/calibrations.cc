#include "client/cpp/calibrations.h"

#include <fmt/format.h>

#include "client/cpp/call.h"
#include "client/cpp/convert.h"

namespace mnemo::client {
namespace {

using Request = v1::GetCalibrationRequest;
using Response = v1::GetCalibrationResponse;

constexpr UnaryMethod<v1::SpaceService, Request, Response> kGetCalibration =
    &v1::SpaceService::StubInterface::async_interface::GetCalibration;

// What is left of one FetchCalibrations; one call at a time.
struct Fetch {
  Core& core;
  CallSettings settings;
  SpaceRef space;
  std::set<uint32_t> ids;
  CalibrationFailures failures;
  std::function<void(CalibrationFailures)> done;
};

void Next(const std::shared_ptr<Fetch>& fetch) {
  if (fetch->ids.empty()) return fetch->done(std::move(fetch->failures));
  const uint32_t id = fetch->ids.extract(fetch->ids.begin()).value();
  Request request;
  SetSpace(fetch->space, *request.mutable_space());
  request.set_id(id);
  const auto deliver = [fetch, id](const absl::Status& status, const Response& response) {
    absl::Status kept = status;
    if (kept.ok()) {
      kept = fetch->core.calibrations().Add(fetch->space, id, AsBytes(response.calibration()));
    }
    if (!kept.ok()) fetch->failures.emplace(id, kept);
    Next(fetch);
  };
  Call::Start(std::make_unique<UnaryCall<v1::SpaceService, Request, Response>>(
      fetch->core, fetch->settings, kGetCalibration, std::move(request), deliver));
}

}  // namespace

std::shared_ptr<const Calibration> CalibrationCache::Find(const SpaceRef& space,
                                                          uint32_t id) const {
  MutexLock lock(mutex_);
  const auto found = known_.find({space.ref, id});
  return found == known_.end() ? nullptr : found->second;
}

absl::Status CalibrationCache::Add(const SpaceRef& space, uint32_t id, ByteView bytes) {
  const absl::StatusOr<std::shared_ptr<const Calibration>> calibration = Calibration::Parse(bytes);
  if (!calibration.ok() || (*calibration)->id() != id) {
    return absl::InternalError(fmt::format("the daemon's answer is not calibration {:08x}", id));
  }
  MutexLock lock(mutex_);
  if (bytes_ + bytes.size() > kMostBytes) {
    known_.clear();
    bytes_ = 0;
  }
  if (known_.insert_or_assign({space.ref, id}, *calibration).second) bytes_ += bytes.size();
  return absl::OkStatus();
}

void FetchCalibrations(Core& core, const CallSettings& settings, const SpaceRef& space,
                       std::set<uint32_t> ids, std::function<void(CalibrationFailures)> done) {
  Next(std::make_shared<Fetch>(Fetch{.core = core,
                                     .settings = settings,
                                     .space = space,
                                     .ids = std::move(ids),
                                     .done = std::move(done)}));
}

}  // namespace mnemo::client
