// Single-use tickets, by which a stream on a data plane comes to the identity of
// the call that asked for it.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "server/identity/identity.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"

namespace mnemo {

struct TicketOptions {
  Nanos lifetime = std::chrono::seconds(30);
  // Issued within one lifetime, used or not: what a tenant may have, so that it
  // cannot use up the rest's, and what the node may.
  size_t max_of_tenant = 4096;
  size_t max_of_node = 65536;
  absl::Status Validate() const;
};

// Thread-safe. Memory: about 200 bytes a ticket issued within one lifetime; older
// ones go with the next Issue. Tickets do not outlive the process.
class TicketBook {
 public:
  static constexpr size_t kTicketBytes = 16;  // 128 bits from OpenSSL's generator
  struct Issued {
    std::string ticket;  // kTicketBytes raw bytes
    MonoTime expires;
  };

  TicketBook(const TicketOptions& options, Clock& clock) : options_(options), clock_(clock) {}

  // For the caller of an authenticated call. `plane` names what it opens, such
  // as "tcp" or "fast", and must be the same at Redeem. Errors:
  // kResourceExhausted (too many were issued within one lifetime).
  absl::StatusOr<Issued> Issue(const Identity& identity, std::string_view plane);

  // The identity that the ticket was issued for; never a second time. Errors:
  // kUnauthenticated, with one message whether the ticket never was, is used, has
  // expired or belongs to another plane. A ticket tried on the wrong plane is
  // used up.
  absl::StatusOr<Identity> Redeem(std::string_view ticket, std::string_view plane);

  // Drops those of a tenant and principal, as when a token is revoked.
  void Drop(uint64_t tenant, std::string_view principal);
  size_t outstanding() const;

 private:
  // SHA-256 of the ticket, shortened: what a look-up compares tells nothing of
  // the ticket itself.
  using Digest = std::array<uint8_t, 16>;
  struct DigestHash {
    size_t operator()(const Digest& digest) const;
  };
  struct Ticket {
    Identity identity;
    std::string plane;
    MonoTime expires;
  };
  struct End {
    MonoTime time;
    Digest digest;
    uint64_t tenant;
  };

  static Digest DigestOf(std::string_view ticket);
  void ExpireLocked(MonoTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const TicketOptions options_;
  Clock& clock_;
  mutable Mutex mutex_;
  std::unordered_map<Digest, Ticket, DigestHash> tickets_ ABSL_GUARDED_BY(mutex_);
  std::deque<End> by_end_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, size_t> of_tenant_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo
