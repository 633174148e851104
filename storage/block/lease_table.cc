#include "storage/block/lease_table.h"

#include <fmt/format.h>

#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

absl::Status CheckDuration(Nanos duration) {
  if (duration <= Nanos(0) || duration > LeaseTable::kMaxDuration) {
    return absl::InvalidArgumentError(
        fmt::format("duration of a lease is {} ms, not above 0 and at most 60,000 ms",
                    std::chrono::duration_cast<std::chrono::milliseconds>(duration).count()));
  }
  return absl::OkStatus();
}

absl::Status NoLease() { return absl::NotFoundError("no such lease; it may have ended"); }

}  // namespace

LeaseTable::LeaseTable(Directory& directory, const Clock& clock, LeaseId first_id)
    : directory_(directory), clock_(clock), next_id_(first_id == 0 ? 1 : first_id) {}

absl::StatusOr<LeaseId> LeaseTable::Grant(uint64_t tenant, std::span<const EntryId> parts,
                                          Nanos duration, uint64_t tenant_limit_bytes) {
  MNEMO_RETURN_IF_ERROR(CheckDuration(duration));
  if (parts.empty() || parts.size() > kMaxParts) {
    return absl::InvalidArgumentError(
        fmt::format("a lease of {} parts, not 1 to {}", parts.size(), kMaxParts));
  }
  Lease lease{.tenant = tenant, .ends = clock_.Mono() + duration};
  lease.parts.reserve(parts.size());
  absl::Status status;
  for (const EntryId id : parts) {
    const std::optional<uint64_t> bytes = directory_.AddLease(id, tenant);
    if (!bytes) {
      status = absl::NotFoundError("a part of the lease is not present any more");
      break;
    }
    lease.parts.push_back(id);
    lease.bytes += *bytes;
  }
  if (status.ok()) {
    MutexLock lock(mutex_);
    uint64_t& used = tenant_bytes_[tenant];
    if (lease.bytes <= tenant_limit_bytes && used <= tenant_limit_bytes - lease.bytes) {
      used += lease.bytes;
      const LeaseId id = next_id_++;
      if (next_id_ == 0) next_id_ = 1;
      by_end_.emplace(lease.ends, id);
      leases_.emplace(id, std::move(lease));
      return id;
    }
    status = absl::ResourceExhaustedError(
        fmt::format("leases of {} bytes and {} more are above the tenant's {}", used, lease.bytes,
                    tenant_limit_bytes));
    if (used == 0) tenant_bytes_.erase(tenant);
  }
  // These were leased for a moment, and an evictor may have left one held for
  // it; nobody would release that again, so it is remembered as ended.
  EndedLeases ended;
  DropParts(lease, ended);
  MutexLock lock(mutex_);
  Append(refused_, ended);
  return status;
}

absl::Status LeaseTable::Renew(uint64_t tenant, LeaseId lease, Nanos duration) {
  MNEMO_RETURN_IF_ERROR(CheckDuration(duration));
  const MonoTime now = clock_.Mono();
  MutexLock lock(mutex_);
  const auto found = leases_.find(lease);
  // One whose time is over is gone, though its parts are not dropped yet.
  if (found == leases_.end() || found->second.tenant != tenant || found->second.ends <= now) {
    return NoLease();
  }
  EraseEnd(found->second.ends, lease);
  found->second.ends = now + duration;
  by_end_.emplace(found->second.ends, lease);
  return absl::OkStatus();
}

absl::StatusOr<EndedLeases> LeaseTable::Release(uint64_t tenant, LeaseId lease) {
  Lease taken;
  {
    MutexLock lock(mutex_);
    const auto found = leases_.find(lease);
    if (found == leases_.end() || found->second.tenant != tenant) return NoLease();
    taken = TakeLocked(lease);
  }
  EndedLeases ended;
  DropParts(taken, ended);
  ended.count = 1;
  return ended;
}

EndedLeases LeaseTable::EndExpired(size_t limit) {
  const MonoTime now = clock_.Mono();
  EndedLeases ended;
  std::vector<Lease> taken;
  {
    MutexLock lock(mutex_);
    ended = std::exchange(refused_, {});
    while (taken.size() < limit && !by_end_.empty() && by_end_.begin()->first <= now) {
      taken.push_back(TakeLocked(by_end_.begin()->second));
    }
  }
  for (const Lease& lease : taken) DropParts(lease, ended);
  ended.count = taken.size();
  return ended;
}

LeaseTable::Lease LeaseTable::TakeLocked(LeaseId id) {
  const auto found = leases_.find(id);
  Lease lease = std::move(found->second);
  leases_.erase(found);
  EraseEnd(lease.ends, id);
  const auto used = tenant_bytes_.find(lease.tenant);
  used->second -= lease.bytes;
  if (used->second == 0) tenant_bytes_.erase(used);
  return lease;
}

void LeaseTable::EraseEnd(MonoTime ends, LeaseId id) {
  auto [at, end] = by_end_.equal_range(ends);
  while (at != end && at->second != id) ++at;
  MNEMO_CHECK(at != end);
  by_end_.erase(at);
}

void LeaseTable::DropParts(const Lease& lease, EndedLeases& ended) {
  for (const EntryId id : lease.parts) {
    if (directory_.DropLease(id, ended.new_leaves)) ended.unleased.push_back(id);
  }
}

void LeaseTable::Append(EndedLeases& to, const EndedLeases& more) {
  to.unleased.insert(to.unleased.end(), more.unleased.begin(), more.unleased.end());
  to.new_leaves.insert(to.new_leaves.end(), more.new_leaves.begin(), more.new_leaves.end());
}

uint64_t LeaseTable::leases() const {
  MutexLock lock(mutex_);
  return leases_.size();
}

uint64_t LeaseTable::TenantBytes(uint64_t tenant) const {
  MutexLock lock(mutex_);
  const auto found = tenant_bytes_.find(tenant);
  return found == tenant_bytes_.end() ? 0 : found->second;
}

}  // namespace mnemo
