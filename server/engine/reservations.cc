#include "server/engine/reservations.h"

#include <fmt/format.h>

#include <random>

namespace mnemo {

bool Reservations::AliveLocked(uint64_t id) const {
  const auto found = reservations_.find(id);
  return found != reservations_.end() && found->second.ends > clock_.Mono();
}

bool Reservations::HeldByOther(const std::string& part, uint64_t own) const {
  MutexLock lock(mutex_);
  const auto holder = holders_.find(part);
  return holder != holders_.end() && holder->second != own && AliveLocked(holder->second);
}

absl::StatusOr<uint64_t> Reservations::Take(uint64_t tenant, const std::vector<std::string>& parts,
                                            Nanos duration, std::vector<bool>& taken) {
  // Ids are random, so that one client cannot name another's.
  std::random_device entropy;
  uint64_t id = 0;
  taken.assign(parts.size(), false);
  MutexLock lock(mutex_);
  while (id == 0 || reservations_.contains(id)) id = (uint64_t{entropy()} << 32) | entropy();
  // Those that ended must not keep others out until the next worker comes by.
  if (holders_.size() + parts.size() > kMaxParts) ExpireLocked();
  if (holders_.size() + parts.size() > kMaxParts) {
    return absl::ResourceExhaustedError(
        fmt::format("{} parts are reserved and {} more were offered; at most {} may be",
                    holders_.size(), parts.size(), kMaxParts));
  }
  Reservation reservation{.tenant = tenant, .ends = clock_.Mono() + duration};
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto holder = holders_.find(parts[i]);
    if (holder != holders_.end() && (holder->second == id || AliveLocked(holder->second))) continue;
    holders_[parts[i]] = id;
    reservation.parts.insert(parts[i]);
    taken[i] = true;
  }
  if (reservation.parts.empty()) return 0;
  reservations_[id] = std::move(reservation);
  return id;
}

bool Reservations::Owns(uint64_t id, uint64_t tenant) const {
  MutexLock lock(mutex_);
  return AliveLocked(id) && reservations_.at(id).tenant == tenant;
}

void Reservations::Release(uint64_t id, const std::string& part) {
  MutexLock lock(mutex_);
  const auto found = reservations_.find(id);
  if (found == reservations_.end() || found->second.parts.erase(part) == 0) return;
  ForgetLocked(id, part);
  if (found->second.parts.empty()) reservations_.erase(found);
}

void Reservations::ForgetLocked(uint64_t id, const std::string& part) {
  const auto holder = holders_.find(part);
  // A part whose reservation ran out may be another's by now.
  if (holder != holders_.end() && holder->second == id) holders_.erase(holder);
}

void Reservations::Expire() {
  MutexLock lock(mutex_);
  ExpireLocked();
}

void Reservations::ExpireLocked() {
  const MonoTime now = clock_.Mono();
  for (auto it = reservations_.begin(); it != reservations_.end();) {
    if (it->second.ends > now) {
      ++it;
      continue;
    }
    for (const std::string& part : it->second.parts) ForgetLocked(it->first, part);
    it = reservations_.erase(it);
  }
}

bool Reservations::empty() const {
  MutexLock lock(mutex_);
  return holders_.empty();
}

}  // namespace mnemo
