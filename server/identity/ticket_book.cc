#include "server/identity/ticket_book.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/identity/random.h"
#include "storage/base/bytes.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

absl::Status Refused() {
  return absl::UnauthenticatedError(
      "the ticket is not known: it is used, expired or not from here");
}

}  // namespace

absl::Status TicketOptions::Validate() const {
  if (lifetime < std::chrono::seconds(1) || lifetime > std::chrono::hours(1)) {
    return absl::InvalidArgumentError(
        fmt::format("lifetime is {}; it must be 1 s to 1 h", FormatDuration(lifetime)));
  }
  if (max_of_node < 1 || max_of_node > (size_t{1} << 20)) {
    return absl::InvalidArgumentError(
        fmt::format("max_of_node is {}; it must be 1 to {}", max_of_node, 1 << 20));
  }
  if (max_of_tenant < 1 || max_of_tenant > max_of_node) {
    return absl::InvalidArgumentError(
        fmt::format("max_of_tenant is {}; it must be 1 to {}", max_of_tenant, max_of_node));
  }
  return absl::OkStatus();
}

size_t TicketBook::DigestHash::operator()(const Digest& digest) const {
  return LoadLittle<size_t>(digest.data());
}

TicketBook::Digest TicketBook::DigestOf(std::string_view ticket) {
  const Sha256Digest whole = Sha256(ticket);
  Digest digest;
  std::copy_n(whole.begin(), digest.size(), digest.begin());
  return digest;
}

void TicketBook::ExpireLocked(MonoTime now) {
  while (!by_end_.empty() && by_end_.front().time <= now) {
    const End& end = by_end_.front();
    tickets_.erase(end.digest);
    const auto count = of_tenant_.find(end.tenant);
    if (--count->second == 0) of_tenant_.erase(count);
    by_end_.pop_front();
  }
}

absl::StatusOr<TicketBook::Issued> TicketBook::Issue(const Identity& identity,
                                                     std::string_view plane) {
  std::string ticket = RandomBytes(kTicketBytes);
  const Digest digest = DigestOf(ticket);
  MutexLock lock(mutex_);
  const MonoTime now = clock_.Mono();
  ExpireLocked(now);
  if (by_end_.size() >= options_.max_of_node) {
    return absl::ResourceExhaustedError(
        fmt::format("too many tickets were issued within {}", FormatDuration(options_.lifetime)));
  }
  size_t& count = of_tenant_[identity.tenant];
  if (count >= options_.max_of_tenant) {
    return absl::ResourceExhaustedError(
        fmt::format("{} tickets of this tenant were issued within {}, which is the most", count,
                    FormatDuration(options_.lifetime)));
  }
  ++count;
  const MonoTime end = now + options_.lifetime;
  tickets_.emplace(digest, Ticket{identity, std::string(plane), end});
  by_end_.push_back({end, digest, identity.tenant});
  return Issued{std::move(ticket), end};
}

absl::StatusOr<Identity> TicketBook::Redeem(std::string_view ticket, std::string_view plane) {
  if (ticket.size() != kTicketBytes) return Refused();
  const Digest digest = DigestOf(ticket);
  MutexLock lock(mutex_);
  const auto found = tickets_.find(digest);
  if (found == tickets_.end()) return Refused();
  Ticket taken = std::move(found->second);
  tickets_.erase(found);
  if (taken.expires <= clock_.Mono() || taken.plane != plane) return Refused();
  return std::move(taken.identity);
}

void TicketBook::Drop(uint64_t tenant, std::string_view principal) {
  MutexLock lock(mutex_);
  std::erase_if(tickets_, [&](const auto& entry) {
    const Identity& identity = entry.second.identity;
    return identity.tenant == tenant && identity.principal == principal;
  });
}

size_t TicketBook::outstanding() const {
  MutexLock lock(mutex_);
  return tickets_.size();
}

}  // namespace mnemo
