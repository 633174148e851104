// Fail-open access for inference engines: a look-up that is slow or fails is
// a miss, and nothing here returns an error.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "mnemo/client.h"

namespace mnemo::client {

struct EngineOptions {
  // Above which a look-up counts as a miss.
  Millis lookup_timeout{50};
  // Above which a read or write is given up.
  Millis transfer_timeout{2000};
  // After so many failures in a row (misses are none), calls are answered as
  // misses without asking, so that a dead store costs an engine nothing...
  int failures_to_open = 3;
  // ...until this time has passed and one call may try again.
  Millis open_for{1000};
};

// What went wrong, for an engine's own counters.
struct EngineStats {
  uint64_t failed = 0;   // calls that ended in an error or too late
  uint64_t skipped = 0;  // calls that were not made while the circuit was open
};

// Thread-safe. Borrows the client, and must not end before its calls have.
class Engine {
 public:
  Engine(Client& client, const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // On failure nothing matches.
  MatchResult Match(const MatchRequest& request);
  // One for each destination: whether it holds the part's bytes.
  std::vector<bool> Get(const GetRequest& request);
  // One for each part: whether it is stored, or was.
  std::vector<bool> Put(const PutRequest& request);

  // The same without waiting. `done` is called exactly once, on a thread of
  // the client or, when the circuit is open, on the caller's.
  void MatchAsync(const MatchRequest& request, std::function<void(MatchResult)> done);
  void GetAsync(const GetRequest& request, std::function<void(std::vector<bool>)> done);
  void PutAsync(const PutRequest& request, std::function<void(std::vector<bool>)> done);

  EngineStats stats() const;

 private:
  struct State;
  Client& client_;
  const EngineOptions options_;
  const std::unique_ptr<State> state_;
};

}  // namespace mnemo::client
