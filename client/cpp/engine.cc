#include "mnemo/engine.h"

#include <future>
#include <utility>

#include "client/cpp/circuit.h"
#include "storage/base/clock.h"

namespace mnemo::client {
namespace {

std::vector<bool> WhichWereRead(const absl::StatusOr<GetResult>& result, size_t parts) {
  std::vector<bool> hits(parts);
  if (!result.ok()) return hits;
  for (size_t i = 0; i < parts; ++i) hits[i] = result->parts[i].status.ok();
  return hits;
}

std::vector<bool> WhichAreStored(const absl::StatusOr<PutResult>& result, size_t parts) {
  std::vector<bool> stored(parts);
  if (!result.ok()) return stored;
  for (size_t i = 0; i < parts; ++i) {
    const PutOutcome outcome = result->parts[i].outcome;
    stored[i] = outcome == PutOutcome::kStored || outcome == PutOutcome::kAlreadyPresent;
  }
  return stored;
}

// A call can end well although the connection failed half-way: then its parts
// carry the failure.
template <typename Result>
absl::Status WorstOf(const absl::StatusOr<Result>& result) {
  if (!result.ok()) return result.status();
  for (const auto& part : result->parts) {
    if (part.status.code() == absl::StatusCode::kUnavailable ||
        part.status.code() == absl::StatusCode::kDeadlineExceeded) {
      return part.status;
    }
  }
  return absl::OkStatus();
}

template <typename Result, typename Start>
Result Wait(Start start) {
  std::promise<Result> promise;
  std::future<Result> future = promise.get_future();
  start([&promise](Result result) { promise.set_value(std::move(result)); });
  return future.get();
}

}  // namespace

struct Engine::State {
  explicit State(const EngineOptions& options) : circuit(options, clock) {}
  SystemClock clock;
  Circuit circuit;
};

Engine::Engine(Client& client, const EngineOptions& options)
    : client_(client), options_(options), state_(std::make_unique<State>(options)) {}

Engine::~Engine() = default;

EngineStats Engine::stats() const { return state_->circuit.stats(); }

void Engine::MatchAsync(const MatchRequest& request, std::function<void(MatchResult)> done) {
  if (!state_->circuit.Enter()) {
    done({});
    return;
  }
  client_.async_blocks().Match(
      request,
      [this, done = std::move(done)](absl::StatusOr<MatchResult> result) {
        state_->circuit.Leave(result.status());
        done(result.ok() ? *std::move(result) : MatchResult{});
      },
      {.timeout = options_.lookup_timeout});
}

void Engine::GetAsync(const GetRequest& request, std::function<void(std::vector<bool>)> done) {
  const size_t parts = request.destinations.size();
  if (!state_->circuit.Enter()) {
    done(std::vector<bool>(parts));
    return;
  }
  client_.async_blocks().Get(
      request,
      [this, parts, done = std::move(done)](const absl::StatusOr<GetResult>& result) {
        state_->circuit.Leave(WorstOf(result));
        done(WhichWereRead(result, parts));
      },
      {.timeout = options_.transfer_timeout});
}

void Engine::PutAsync(const PutRequest& request, std::function<void(std::vector<bool>)> done) {
  const size_t parts = request.parts.size();
  if (!state_->circuit.Enter()) {
    done(std::vector<bool>(parts));
    return;
  }
  client_.async_blocks().Put(
      request,
      [this, parts, done = std::move(done)](const absl::StatusOr<PutResult>& result) {
        state_->circuit.Leave(WorstOf(result));
        done(WhichAreStored(result, parts));
      },
      {.timeout = options_.transfer_timeout});
}

MatchResult Engine::Match(const MatchRequest& request) {
  return Wait<MatchResult>([&](auto done) { MatchAsync(request, std::move(done)); });
}

std::vector<bool> Engine::Get(const GetRequest& request) {
  return Wait<std::vector<bool>>([&](auto done) { GetAsync(request, std::move(done)); });
}

std::vector<bool> Engine::Put(const PutRequest& request) {
  return Wait<std::vector<bool>>([&](auto done) { PutAsync(request, std::move(done)); });
}

}  // namespace mnemo::client
