#include "server/engine/prefetch_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "storage/base/checksum.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

uint64_t ChecksumOf(const PartKey& key) { return Checksum64(AsBytes(key.Stored().bytes()), 0); }

}  // namespace

absl::Status PrefetchOptions::Validate() const {
  const auto check = [](std::string_view field, uint64_t value, uint64_t low, uint64_t high) {
    if (value >= low && value <= high) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("{} is {}; it must be {} to {}", field, value, low, high));
  };
  MNEMO_RETURN_IF_ERROR(check("tenant_bytes", tenant_bytes, kMiB, uint64_t{1} << 50));
  MNEMO_RETURN_IF_ERROR(check("tenant_parts", tenant_parts, 1, 1 << 20));
  MNEMO_RETURN_IF_ERROR(check("parts", parts, 1, 1 << 20));
  return check("follow_blocks", follow_blocks, 0, 1024);
}

size_t PrefetchQueue::RoomLocked(uint64_t tenant, PrefetchOrigin origin) const {
  // What follows makes way for what is asked for.
  size_t of_tenant = 0;
  size_t of_all = 0;
  for (size_t i = 0; i <= static_cast<size_t>(origin); ++i) {
    const auto found = lines_[i].tenants.find(tenant);
    if (found != lines_[i].tenants.end()) of_tenant += found->second.parts;
    of_all += lines_[i].figures.waiting;
  }
  return std::min(options_.tenant_parts - std::min(options_.tenant_parts, of_tenant),
                  options_.parts - std::min(options_.parts, of_all));
}

uint64_t PrefetchQueue::BytesLocked(uint64_t tenant) const {
  uint64_t bytes = 0;
  for (const Line& line : lines_) {
    const auto found = line.tenants.find(tenant);
    if (found != line.tenants.end()) bytes += found->second.bytes;
  }
  return bytes;
}

size_t PrefetchQueue::Room(uint64_t tenant) const {
  MutexLock lock(mutex_);
  return stopped_ ? 0 : RoomLocked(tenant, PrefetchOrigin::kAsked);
}

PrefetchQueue::Added PrefetchQueue::Add(std::span<const Part> parts, PrefetchOrigin origin) {
  if (parts.empty()) return {};
  const bool followed = origin == PrefetchOrigin::kFollowed;
  if (followed && !Idle()) {
    CountDropped(origin, parts.size());
    return {};
  }
  const uint64_t tenant_id = parts[0].key.scope.tenant;
  MutexLock lock(mutex_);
  Line& line = LineOf(origin);
  line.figures.asked += parts.size();
  const bool busy = followed && LineOf(PrefetchOrigin::kAsked).figures.waiting > 0;
  const size_t room = stopped_ || busy ? 0 : RoomLocked(tenant_id, origin);
  if (!followed && room > 0) MakeWayLocked(tenant_id, parts.first(std::min(room, parts.size())));
  uint64_t left = options_.tenant_bytes - std::min(options_.tenant_bytes, BytesLocked(tenant_id));
  Batch batch;
  uint64_t bytes = 0;
  uint64_t again = 0;
  for (const Part& part : parts) {
    if (batch.parts.size() == room || part.bytes > left) break;
    if (followed && !line.keys.insert(ChecksumOf(part.key)).second) {
      ++again;
      continue;
    }
    left -= part.bytes;
    bytes += part.bytes;
    batch.parts.push_back(part);
  }
  const size_t taken = batch.parts.size();
  line.figures.asked -= again;
  line.figures.dropped += parts.size() - taken - again;
  if (taken == 0) return {};
  batch.id = next_id_++;
  Tenant& tenant = line.tenants[tenant_id];
  tenant.parts += taken;
  tenant.bytes += bytes;
  waiting_ += taken;
  line.figures.waiting += taken;
  line.figures.waiting_bytes += bytes;
  tenant.batches.push_back(std::move(batch));
  added_.SignalAll();
  return {.id = tenant.batches.back().id, .taken = taken};
}

void PrefetchQueue::MakeWayLocked(uint64_t tenant_id, std::span<const Part> parts) {
  Line& line = LineOf(PrefetchOrigin::kFollowed);
  if (waiting_ + parts.size() > options_.parts) return GiveUpLocked(line);
  const auto tenant = line.tenants.find(tenant_id);
  if (tenant == line.tenants.end()) return;
  uint64_t bytes = BytesLocked(tenant_id);
  for (const Part& part : parts) bytes += part.bytes;
  if (parts.size() <= RoomLocked(tenant_id, PrefetchOrigin::kFollowed) &&
      bytes <= options_.tenant_bytes) {
    return;
  }
  GiveUpLocked(line, tenant->second);
  if (tenant->second.bytes == 0) line.tenants.erase(tenant);
}

void PrefetchQueue::CountDropped(PrefetchOrigin origin, uint64_t parts) {
  MutexLock lock(mutex_);
  PrefetchFigures& figures = LineOf(origin).figures;
  figures.asked += parts;
  figures.dropped += parts;
}

void PrefetchQueue::GiveUpLocked(Line& line, Tenant& tenant, const Batch& batch) {
  for (const Part& part : batch.parts) {
    if (!line.keys.empty()) line.keys.erase(ChecksumOf(part.key));
    tenant.bytes -= part.bytes;
    line.figures.waiting_bytes -= part.bytes;
  }
  tenant.parts -= batch.parts.size();
  waiting_ -= batch.parts.size();
  line.figures.waiting -= batch.parts.size();
  line.figures.cancelled += batch.parts.size();
}

void PrefetchQueue::GiveUpLocked(Line& line, Tenant& tenant) {
  for (const Batch& batch : tenant.batches) GiveUpLocked(line, tenant, batch);
  tenant.batches.clear();
}

void PrefetchQueue::GiveUpLocked(Line& line) {
  for (auto& [id, tenant] : line.tenants) GiveUpLocked(line, tenant);
  std::erase_if(line.tenants, [](const auto& each) { return each.second.bytes == 0; });
}

void PrefetchQueue::Cancel(uint64_t tenant_id, uint64_t id) {
  MutexLock lock(mutex_);
  Line& line = LineOf(PrefetchOrigin::kAsked);
  const auto tenant = line.tenants.find(tenant_id);
  if (tenant == line.tenants.end()) return;
  std::deque<Batch>& batches = tenant->second.batches;
  const auto batch =
      std::find_if(batches.begin(), batches.end(), [&](const Batch& b) { return b.id == id; });
  if (batch == batches.end()) return;
  GiveUpLocked(line, tenant->second, *batch);
  batches.erase(batch);
  if (tenant->second.bytes == 0) line.tenants.erase(tenant);
}

std::optional<PrefetchQueue::Work> PrefetchQueue::NextLocked(PrefetchOrigin origin) {
  Line& line = LineOf(origin);
  // From behind the tenant that had the last turn, once around.
  auto tenant = line.tenants.upper_bound(line.last);
  for (size_t seen = 0; seen < line.tenants.size(); ++seen, ++tenant) {
    if (tenant == line.tenants.end()) tenant = line.tenants.begin();
    if (tenant->second.parts == 0) continue;
    std::deque<Batch>& batches = tenant->second.batches;
    Work work{.part = std::move(batches.front().parts.front()), .origin = origin};
    batches.front().parts.pop_front();
    if (batches.front().parts.empty()) batches.pop_front();
    --tenant->second.parts;
    --waiting_;
    --line.figures.waiting;
    line.figures.waiting_bytes -= work.part.bytes;
    line.last = tenant->first;
    if (origin == PrefetchOrigin::kFollowed) line.keys.erase(ChecksumOf(work.part.key));
    return work;
  }
  return std::nullopt;
}

std::optional<PrefetchQueue::Work> PrefetchQueue::TakeAny() {
  MutexLock lock(mutex_);
  while (!stopped_) {
    for (const PrefetchOrigin origin : {PrefetchOrigin::kAsked, PrefetchOrigin::kFollowed}) {
      if (std::optional<Work> work = NextLocked(origin)) return work;
    }
    added_.Wait(mutex_);
  }
  return std::nullopt;
}

std::optional<PrefetchQueue::Work> PrefetchQueue::Take() {
  for (;;) {
    std::optional<Work> work = TakeAny();
    if (!work || work->origin == PrefetchOrigin::kAsked || Idle()) return work;
    MutexLock lock(mutex_);
    Line& line = LineOf(work->origin);
    ++line.figures.dropped;
    LetGoLocked(line, *work);
  }
}

void PrefetchQueue::Done(const Work& work, PrefetchOutcome outcome) {
  MutexLock lock(mutex_);
  Line& line = LineOf(work.origin);
  ++line.figures.outcomes[static_cast<size_t>(outcome)];
  if (outcome == PrefetchOutcome::kBrought) line.figures.bytes += work.part.bytes;
  LetGoLocked(line, work);
}

void PrefetchQueue::LetGoLocked(Line& line, const Work& work) {
  const auto tenant = line.tenants.find(work.part.key.scope.tenant);
  tenant->second.bytes -= work.part.bytes;
  if (tenant->second.bytes == 0) line.tenants.erase(tenant);
}

void PrefetchQueue::Stop() {
  MutexLock lock(mutex_);
  stopped_ = true;
  for (Line& line : lines_) GiveUpLocked(line);
  added_.SignalAll();
}

std::array<PrefetchFigures, kPrefetchOrigins> PrefetchQueue::figures() const {
  MutexLock lock(mutex_);
  std::array<PrefetchFigures, kPrefetchOrigins> figures;
  for (size_t i = 0; i < lines_.size(); ++i) figures[i] = lines_[i].figures;
  return figures;
}

}  // namespace mnemo
