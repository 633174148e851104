#include "server/transfer/region_table.h"

#include <fmt/format.h>

#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

template <typename Piece>
uint64_t SizeOf(std::span<const Piece> pieces) {
  uint64_t bytes = 0;
  for (const Piece& piece : pieces) bytes += piece.size();
  return bytes;
}

absl::Status NoSuchRegion(uint32_t id) {
  return absl::NotFoundError(fmt::format("no registration {} of this connection", id));
}

}  // namespace

absl::Status RegionLimits::Validate() const {
  if (tenant_regions < 1 || tenant_regions > 65536) {
    return absl::InvalidArgumentError(
        fmt::format("tenant_regions: {} is not from 1 to 65536", tenant_regions));
  }
  if (tenant_bytes > kMaxRegionBytes) {
    return absl::InvalidArgumentError(
        fmt::format("tenant_bytes: {} is more than {}", tenant_bytes, kMaxRegionBytes));
  }
  if (staging_bytes > kMaxRegionBytes) {
    return absl::InvalidArgumentError(
        fmt::format("staging_bytes: {} is more than {}", staging_bytes, kMaxRegionBytes));
  }
  return absl::OkStatus();
}

RegionFigures RegionLedger::figures() const {
  RegionFigures figures;
  for (size_t i = 0; i < kRegionFormCount; ++i) {
    const Counters& counters = counters_[i];
    figures[i] = {.registered = counters.registered,
                  .refused = counters.refused,
                  .bytes_in = counters.bytes_in,
                  .bytes_out = counters.bytes_out,
                  .failed_copies = counters.failed_copies};
  }
  MutexLock lock(mutex_);
  for (size_t i = 0; i < kRegionFormCount; ++i) {
    figures[i].regions = forms_[i].regions;
    figures[i].bytes = forms_[i].bytes;
  }
  return figures;
}

absl::StatusOr<RegionCharge> RegionLedger::Take(uint64_t tenant, RegionForm form, uint64_t bytes) {
  MutexLock lock(mutex_);
  const auto found = tenants_.find(tenant);
  const Usage of_tenant = found == tenants_.end() ? Usage{} : found->second;
  const Usage of_form = forms_[static_cast<size_t>(form) - 1];
  if (of_tenant.regions >= limits_.tenant_regions) {
    return absl::ResourceExhaustedError(
        fmt::format("the tenant has {} registrations, the limit", of_tenant.regions));
  }
  // No sum: a size of a message may be any number.
  if (bytes > limits_.tenant_bytes - of_tenant.bytes) {
    return absl::ResourceExhaustedError(
        fmt::format("size: {} bytes, the tenant has registered {} of {}", bytes, of_tenant.bytes,
                    limits_.tenant_bytes));
  }
  if (form == RegionForm::kStaging && bytes > limits_.staging_bytes - of_form.bytes) {
    return absl::ResourceExhaustedError(
        fmt::format("size: {} bytes, {} of {} of staging memory are in use", bytes, of_form.bytes,
                    limits_.staging_bytes));
  }
  for (Usage* usage : {&tenants_[tenant], &forms_[static_cast<size_t>(form) - 1]}) {
    ++usage->regions;
    usage->bytes += bytes;
  }
  return RegionCharge(*this, tenant, form, bytes);
}

void RegionLedger::GiveBack(uint64_t tenant, RegionForm form, uint64_t bytes) {
  MutexLock lock(mutex_);
  const auto found = tenants_.find(tenant);
  MNEMO_CHECK(found != tenants_.end());
  for (Usage* usage : {&found->second, &forms_[static_cast<size_t>(form) - 1]}) {
    --usage->regions;
    usage->bytes -= bytes;
  }
  if (found->second.regions == 0) tenants_.erase(found);
}

RegionCharge::RegionCharge(RegionCharge&& other) noexcept
    : ledger_(std::exchange(other.ledger_, nullptr)),
      tenant_(other.tenant_),
      form_(other.form_),
      bytes_(other.bytes_) {}

RegionCharge::~RegionCharge() {
  if (ledger_ != nullptr) ledger_->GiveBack(tenant_, form_, bytes_);
}

absl::Status RegisteredRegion::CopyIn(const SliceList& slices, uint64_t position,
                                      std::span<const MutableByteView> to) const {
  const absl::Status copied = region_->CopyIn(slices, position, to);
  RegionLedger::Counters& counters = ledger_.CountersOf(form());
  (copied.ok() ? counters.bytes_in : counters.failed_copies) += copied.ok() ? SizeOf(to) : 1;
  return copied;
}

absl::Status RegisteredRegion::CopyOut(std::span<const ByteView> from, const SliceList& slices,
                                       uint64_t position) const {
  const absl::Status copied = region_->CopyOut(from, slices, position);
  RegionLedger::Counters& counters = ledger_.CountersOf(form());
  (copied.ok() ? counters.bytes_out : counters.failed_copies) += copied.ok() ? SizeOf(from) : 1;
  return copied;
}

absl::StatusOr<uint32_t> RegionTable::AddFile(Descriptor file, uint64_t size) {
  // Before it is known to be mapped or not.
  absl::StatusOr<std::unique_ptr<Region>> region = MakeFileRegion(std::move(file), size);
  if (!region.ok()) return Refuse(RegionForm::kMapped, region.status());
  return ChargeAndKeep(*std::move(region));
}

absl::StatusOr<uint32_t> RegionTable::AddProcess(uint64_t address, uint64_t size) {
  if (!ledger_.limits().process_memory) {
    return Refuse(RegionForm::kProcess,
                  absl::PermissionDeniedError(
                      "memory of processes is not taken here (`streams.process_memory`)"));
  }
  absl::StatusOr<std::unique_ptr<Region>> region = MakeProcessRegion(peer_, address, size);
  if (!region.ok()) return Refuse(RegionForm::kProcess, region.status());
  return ChargeAndKeep(*std::move(region));
}

absl::Status RegionTable::RefuseForeign() {
  return Refuse(RegionForm::kProcess,
                absl::PermissionDeniedError(
                    "memory of a process is registered by itself alone: another one wrote this"));
}

absl::StatusOr<uint32_t> RegionTable::AddStaging(uint64_t size, Descriptor& for_client) {
  // Charged before it is made: its pages are ours.
  absl::StatusOr<RegionCharge> charge = ledger_.Take(tenant_, RegionForm::kStaging, size);
  if (!charge.ok()) return Refuse(RegionForm::kStaging, charge.status());
  absl::StatusOr<std::unique_ptr<Region>> region = MakeStagingRegion(size, for_client);
  if (!region.ok()) return Refuse(RegionForm::kStaging, region.status());
  return Keep(*std::move(charge), *std::move(region));
}

absl::StatusOr<uint32_t> RegionTable::ChargeAndKeep(std::unique_ptr<Region> region) {
  absl::StatusOr<RegionCharge> charge = ledger_.Take(tenant_, region->form(), region->size());
  if (!charge.ok()) return Refuse(region->form(), charge.status());
  return Keep(*std::move(charge), std::move(region));
}

absl::Status RegionTable::Refuse(RegionForm form, const absl::Status& reason) {
  ++ledger_.CountersOf(form).refused;
  return reason;
}

uint32_t RegionTable::Keep(RegionCharge charge, std::unique_ptr<Region> region) {
  ++ledger_.CountersOf(region->form()).registered;
  auto registered =
      std::make_shared<const RegisteredRegion>(ledger_, std::move(charge), std::move(region));
  MutexLock lock(mutex_);
  // 2^32 registrations of one connection: it would have to register one each
  // millisecond for 49 days.
  MNEMO_CHECK(next_id_ != 0);
  regions_.emplace(next_id_, std::move(registered));
  return next_id_++;
}

absl::StatusOr<std::shared_ptr<const RegisteredRegion>> RegionTable::Find(uint32_t id) const {
  MutexLock lock(mutex_);
  const auto found = regions_.find(id);
  if (found == regions_.end()) return NoSuchRegion(id);
  return found->second;
}

absl::Status RegionTable::Remove(uint32_t id) {
  // Unmapped without the lock, by whoever lets go of it last.
  std::shared_ptr<const RegisteredRegion> removed;
  MutexLock lock(mutex_);
  const auto found = regions_.find(id);
  if (found == regions_.end()) return NoSuchRegion(id);
  removed = std::move(found->second);
  regions_.erase(found);
  return absl::OkStatus();
}

size_t RegionTable::size() const {
  MutexLock lock(mutex_);
  return regions_.size();
}

}  // namespace mnemo
