// How a client behaves: where it connects, how long it waits, when it tries
// again.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "mnemo/memory.h"

namespace mnemo::client {

using Millis = std::chrono::milliseconds;

// Retries happen only for calls that are safe to repeat, or that the server
// shed before it did anything; never past the call's deadline; and only while
// the budget lasts, so that a sick server is not buried by its clients.
struct RetryOptions {
  // Attempts in all; 1 turns retries off. 1 to 10.
  int max_attempts = 4;
  // Pause before the first retry; doubles with each, with full jitter. At
  // least 1 ms. A server's grpc-retry-pushback-ms wins over it.
  Millis initial_backoff{20};
  Millis max_backoff{2000};
  // Tokens of the bucket, 1 to 1000. A failure takes one, a success gives
  // back `token_ratio`; at or below half of them nothing is retried.
  double budget_tokens = 10;
  double token_ratio = 0.1;
};

// TLS of the connections; every text is PEM.
struct TlsOptions {
  // What the server's certificate is checked against; empty: what the system
  // trusts.
  std::string ca;
  // Show who the client is, where the server asks. Both or none.
  std::string certificate;
  std::string key;
  // The name that the server's certificate must have; empty: the target's host.
  std::string server_name;
};

struct ClientOptions {
  // "HOST:PORT" or "unix:PATH".
  std::string target;

  // Shows who calls, with every call; empty: nothing. Printable ASCII without
  // spaces, at most 512 bytes. Without TLS it travels in the clear.
  std::string token = {};
  // None: plain connections.
  std::optional<TlsOptions> tls = std::nullopt;

  // Deadlines of calls that name none: of those without payload, and of Get,
  // Put and Flush. At least 1 ms.
  Millis timeout{5000};
  Millis transfer_timeout{60000};

  RetryOptions retry;

  // By which way blocks travel; kDefault is kAuto. For calls that wait for their answer it
  // is the fast lane, once the client has shared memory and where all bytes of the call
  // lie in it as whole parts; otherwise, for Get and Put of whole parts in block order, a
  // stream of TCP if the daemon has them, which is tried for at most two seconds; and gRPC
  // where none of them can be had at once, or as many calls are under way as it takes.
  // docs/decisions/0149.
  PlaneChoice plane = PlaneChoice::kAuto;
  // The socket of the daemon's streams, where the uid of this process says who calls.
  // Empty: the daemon is asked for it and for a ticket.
  std::string stream_socket = {};
  // How long a call by the fast lane looks for its answer before its thread sleeps, while
  // answers come within twice that: waking up may take longer than the answer. 0 to 10 ms;
  // 0: not at all. Other threads have the core in between.
  std::chrono::microseconds busy_poll{200};

  // Connections that calls are spread over, 1 to 16. One saturates a core. Of kBulk too,
  // whose streams are opened as calls need them.
  int connections = 1;

  // The name of this client in the server's logs; at most 64 bytes.
  std::string user_agent = "mnemo-cpp";

  // Errors: kInvalidArgument, naming the field and its range.
  absl::Status Validate() const;
};

// Cancels the calls that were given it, also those that start later: they end
// with kCancelled, and the server stops working on them. Thread-safe. Must
// outlive these calls.
class CancelSource {
 public:
  CancelSource();
  ~CancelSource();
  CancelSource(const CancelSource&) = delete;
  CancelSource& operator=(const CancelSource&) = delete;

  void Cancel();
  bool cancelled() const;

  class Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

struct CallOptions {
  // Until all attempts must have ended; 0: the client's default.
  Millis timeout{0};
  // May be null.
  CancelSource* cancel = nullptr;
  // Of Match, Offer, Get, Put and Touch that wait for their answer. With kFast, a call
  // that cannot go by the fast lane is kFailedPrecondition. So is, with kBulk, a Get of
  // other than whole parts in block order, and any call to a daemon without such streams.
  PlaneChoice plane = PlaneChoice::kDefault;
};

}  // namespace mnemo::client
