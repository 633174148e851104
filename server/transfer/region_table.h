// The registrations of one connection, and what each tenant may register.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/transfer/peer.h"
#include "server/transfer/region.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Of each form, in the order of RegionForm.
struct RegionFormFigures {
  uint64_t regions = 0;  // now
  uint64_t bytes = 0;    // of these
  uint64_t registered = 0;
  uint64_t refused = 0;
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  uint64_t failed_copies = 0;
};
using RegionFigures = std::array<RegionFormFigures, kRegionFormCount>;

struct RegionLimits {
  // Of one tenant, all its connections together.
  uint64_t tenant_regions = 64;
  uint64_t tenant_bytes = uint64_t{64} << 30;
  // What staging memory of all tenants may take: it is the daemon's own.
  uint64_t staging_bytes = uint64_t{256} << 20;
  // Whether memory of a process is taken (kProcess).
  bool process_memory = true;

  // Errors: kInvalidArgument.
  absl::Status Validate() const;
};

class RegionLedger;

// What one registration takes of the limits, given back with this. Movable.
class RegionCharge {
 public:
  RegionCharge(RegionCharge&& other) noexcept;
  RegionCharge& operator=(RegionCharge&&) = delete;
  ~RegionCharge();

 private:
  friend class RegionLedger;
  RegionCharge(RegionLedger& ledger, uint64_t tenant, RegionForm form, uint64_t bytes)
      : ledger_(&ledger), tenant_(tenant), form_(form), bytes_(bytes) {}

  RegionLedger* ledger_;
  uint64_t tenant_;
  RegionForm form_;
  uint64_t bytes_;
};

// Registrations of the whole node: what is used of the limits, and figures.
// Thread-safe; outlives every table and region.
class RegionLedger {
 public:
  // Of a form; these only grow.
  struct Counters {
    std::atomic<uint64_t> registered{0};
    std::atomic<uint64_t> refused{0};
    std::atomic<uint64_t> bytes_in{0};   // from clients
    std::atomic<uint64_t> bytes_out{0};  // to clients
    std::atomic<uint64_t> failed_copies{0};
  };

  explicit RegionLedger(const RegionLimits& limits) : limits_(limits) {}
  RegionLedger(const RegionLedger&) = delete;
  RegionLedger& operator=(const RegionLedger&) = delete;

  // Errors: kResourceExhausted, naming the limit.
  absl::StatusOr<RegionCharge> Take(uint64_t tenant, RegionForm form, uint64_t bytes);

  Counters& CountersOf(RegionForm form) { return counters_[static_cast<size_t>(form) - 1]; }
  const RegionLimits& limits() const { return limits_; }
  RegionFigures figures() const;

 private:
  friend class RegionCharge;
  struct Usage {
    uint64_t regions = 0;
    uint64_t bytes = 0;
  };

  void GiveBack(uint64_t tenant, RegionForm form, uint64_t bytes);

  const RegionLimits limits_;
  std::array<Counters, kRegionFormCount> counters_;
  mutable Mutex mutex_;  // innermost
  std::map<uint64_t, Usage> tenants_ ABSL_GUARDED_BY(mutex_);
  std::array<Usage, kRegionFormCount> forms_ ABSL_GUARDED_BY(mutex_);
};

// A region that is charged to its tenant while this lives, and whose copies are
// counted. Thread-safe.
class RegisteredRegion {
 public:
  RegisteredRegion(RegionLedger& ledger, RegionCharge charge, std::unique_ptr<Region> region)
      : ledger_(ledger), charge_(std::move(charge)), region_(std::move(region)) {}

  uint64_t size() const { return region_->size(); }
  RegionForm form() const { return region_->form(); }
  bool writable() const { return region_->writable(); }

  // As those of Region.
  absl::Status CopyIn(const SliceList& slices, uint64_t position,
                      std::span<const MutableByteView> to) const;
  absl::Status CopyOut(std::span<const ByteView> from, const SliceList& slices,
                       uint64_t position) const;

 private:
  RegionLedger& ledger_;
  const RegionCharge charge_;  // given back when the region is gone
  const std::unique_ptr<Region> region_;
};

// The registrations of one connection; they end with it. Thread-safe.
class RegionTable {
 public:
  // `ledger` outlives the table. `peer` is the other end of the connection.
  RegionTable(RegionLedger& ledger, uint64_t tenant, Peer peer)
      : ledger_(ledger), tenant_(tenant), peer_(std::move(peer)) {}

  // Each answers the number by which frames name the region: from 1 on, never
  // given twice. Errors: those of the Make*Region, and kResourceExhausted, naming
  // the limit.
  absl::StatusOr<uint32_t> AddFile(Descriptor file, uint64_t size);
  absl::StatusOr<uint32_t> AddProcess(uint64_t address, uint64_t size);
  // What AddProcess answers to another process than the peer: kPermissionDenied.
  absl::Status RefuseForeign();
  absl::StatusOr<uint32_t> AddStaging(uint64_t size, Descriptor& for_client);

  // A copy that runs keeps its region, though it is removed meanwhile: hence
  // shared. Errors: kNotFound.
  absl::StatusOr<std::shared_ptr<const RegisteredRegion>> Find(uint32_t id) const;
  // Errors: kNotFound.
  absl::Status Remove(uint32_t id);
  size_t size() const;

 private:
  absl::StatusOr<uint32_t> ChargeAndKeep(std::unique_ptr<Region> region);
  uint32_t Keep(RegionCharge charge, std::unique_ptr<Region> region);
  absl::Status Refuse(RegionForm form, const absl::Status& reason);

  RegionLedger& ledger_;
  const uint64_t tenant_;
  const Peer peer_;
  mutable Mutex mutex_;  // taken before the ledger's
  uint32_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<uint32_t, std::shared_ptr<const RegisteredRegion>> regions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mnemo
