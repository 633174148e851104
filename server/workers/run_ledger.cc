#include "server/workers/run_ledger.h"

#include <bit>
#include <utility>

namespace mnemo {
namespace {

static_assert(kRunsPerRange == 64);

uint64_t RangesOf(uint64_t runs) { return (runs + kRunsPerRange - 1) / kRunsPerRange; }

}  // namespace

void RunLedger::Count(const Account& account, bool add) {
  uint64_t archived = 0;
  for (const uint64_t bits : account.archived) archived += std::popcount(bits);
  const auto count = [&](RunShare& share, uint64_t runs) {
    share.runs += add ? runs : -runs;
    share.bytes += (add ? runs : -runs) * account.run_bytes;
  };
  count(archive_, archived);
  count(l3_, account.runs - archived);
}

void RunLedger::Set(KeyScope scope, uint64_t run_bytes, uint64_t runs,
                    std::vector<uint64_t> archived) {
  Forget(scope);
  Account account{.run_bytes = run_bytes, .runs = runs, .archived = std::move(archived)};
  account.archived.resize(RangesOf(runs));
  // What is not whole yet lies nowhere.
  if (runs % kRunsPerRange != 0) {
    account.archived.back() &= (uint64_t{1} << (runs % kRunsPerRange)) - 1;
  }
  Count(account, /*add=*/true);
  accounts_[scope] = std::move(account);
}

void RunLedger::Grow(KeyScope scope, uint64_t runs) {
  const auto found = accounts_.find(scope);
  if (found == accounts_.end() || found->second.runs >= runs) return;
  Account& account = found->second;
  l3_.runs += runs - account.runs;
  l3_.bytes += (runs - account.runs) * account.run_bytes;
  account.runs = runs;
  account.archived.resize(RangesOf(runs));
}

void RunLedger::Forget(KeyScope scope) {
  const auto found = accounts_.find(scope);
  if (found == accounts_.end()) return;
  Count(found->second, /*add=*/false);
  accounts_.erase(found);
}

void RunLedger::Move(RunRef ref, bool to_archive) {
  const auto found = accounts_.find(ref.scope);
  if (found == accounts_.end() || ref.run >= found->second.runs) return;
  Account& account = found->second;
  if (Bit(account, ref.run) == to_archive) return;
  account.archived[ref.run / kRunsPerRange] ^= uint64_t{1} << (ref.run % kRunsPerRange);
  RunShare& from = to_archive ? l3_ : archive_;
  RunShare& to = to_archive ? archive_ : l3_;
  --from.runs;
  ++to.runs;
  from.bytes -= account.run_bytes;
  to.bytes += account.run_bytes;
}

bool RunLedger::InArchive(RunRef ref) const {
  const auto found = accounts_.find(ref.scope);
  return found != accounts_.end() && ref.run < found->second.runs && Bit(found->second, ref.run);
}

uint64_t RunLedger::RunBytes(KeyScope scope) const {
  const auto found = accounts_.find(scope);
  return found == accounts_.end() ? 0 : found->second.run_bytes;
}

std::optional<RunRef> RunLedger::NextAtL3(RunRef from) const {
  for (auto it = accounts_.lower_bound(from.scope); it != accounts_.end(); ++it) {
    const Account& account = it->second;
    uint64_t run = it->first == from.scope ? from.run : 0;
    while (run < account.runs) {
      const uint64_t left = ~account.archived[run / kRunsPerRange] >> (run % kRunsPerRange);
      if (left == 0) {
        run = (run / kRunsPerRange + 1) * kRunsPerRange;
        continue;
      }
      run += std::countr_zero(left);
      if (run < account.runs) return RunRef{it->first, run};
    }
  }
  return std::nullopt;
}

}  // namespace mnemo
