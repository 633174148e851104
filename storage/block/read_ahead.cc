#include "storage/block/read_ahead.h"

#include <utility>

namespace mnemo {
namespace {

// They wait for the disk, and check and copy what it gives: with more than a few the disk is
// busy all the time.
constexpr size_t kThreads = 3;

}  // namespace

class ReadAheadTable::Holder final : public PartAhead {
 public:
  Holder(ReadAheadTable& owner, std::shared_ptr<Slot> slot)
      : owner_(owner), slot_(std::move(slot)) {}
  ~Holder() override { owner_.Release(slot_); }

 private:
  ReadAheadTable& owner_;
  const std::shared_ptr<Slot> slot_;
};

ReadAheadTable::ReadAheadTable(const DiskLevels& disks, uint64_t capacity)
    : disks_(disks), capacity_(capacity) {
  if (capacity > 0) threads_.emplace(Executor::Options{.name = "read-ahead", .threads = kThreads});
}

void ReadAheadTable::Stop() {
  if (threads_) threads_->Shutdown();
}

std::unique_ptr<PartAhead> ReadAheadTable::Begin(const DirectoryEntry& entry) {
  if (!threads_) return nullptr;
  std::shared_ptr<Slot> slot;
  {
    MutexLock lock(mutex_);
    const auto found = slots_.find(entry.ref.id);
    if (found != slots_.end()) {
      slot = found->second;
      if (slot->ref != entry.ref || slot->place != *entry.disk) return nullptr;
      ++slot->holders;
      return std::make_unique<Holder>(*this, std::move(slot));
    }
    if (entry.disk->stored_bytes > capacity_ - used_) return nullptr;
    slot = std::make_shared<Slot>(Slot{.ref = entry.ref, .place = *entry.disk, .key = entry.key});
    used_ += slot->place.stored_bytes;
    slots_.emplace(entry.ref.id, slot);
  }
  auto holder = std::make_unique<Holder>(*this, slot);
  if (!threads_->TrySubmit([this, slot] { Run(*slot); })) return nullptr;
  return holder;
}

void ReadAheadTable::Run(Slot& slot) {
  {
    MutexLock lock(mutex_);
    if (slot.state != State::kQueued) return;
    slot.state = State::kRunning;
  }
  absl::StatusOr<PinnedBytes> read = disks_.Get(slot.place, slot.key.Stored());
  MutexLock lock(mutex_);
  slot.state = State::kDone;
  slot.failed = !read.ok();
  if (slot.holders == 0) {
    used_ -= slot.place.stored_bytes;
  } else if (read.ok()) {
    slot.bytes = *std::move(read);
  }
  read_.SignalAll();
}

std::optional<PinnedBytes> ReadAheadTable::Take(const DirectoryEntry& entry) {
  if (!threads_) return std::nullopt;
  MutexLock lock(mutex_);
  const auto found = slots_.find(entry.ref.id);
  if (found == slots_.end()) return std::nullopt;
  const std::shared_ptr<Slot> slot = found->second;
  if (slot->ref != entry.ref || slot->place != *entry.disk) return std::nullopt;
  if (slot->state == State::kQueued) {
    // Whoever needs it now is sooner than its turn.
    slot->state = State::kDone;
    slot->failed = true;
  }
  if (slot->state == State::kRunning) {
    // Its holders may all go meanwhile.
    ++slot->holders;
    ++waiting_;
    while (slot->state == State::kRunning) read_.Wait(mutex_);
    --waiting_;
    std::optional<PinnedBytes> bytes;
    if (!slot->failed) bytes = slot->bytes;
    ReleaseLocked(*slot);
    return bytes;
  }
  if (slot->failed) return std::nullopt;
  return slot->bytes;
}

uint32_t ReadAheadTable::waiting() const {
  MutexLock lock(mutex_);
  return waiting_;
}

void ReadAheadTable::Release(const std::shared_ptr<Slot>& slot) {
  PinnedBytes released;  // goes without the lock
  MutexLock lock(mutex_);
  released = ReleaseLocked(*slot);
}

PinnedBytes ReadAheadTable::ReleaseLocked(Slot& slot) {
  if (--slot.holders > 0) return {};
  slots_.erase(slot.ref.id);
  // One that runs gives its bytes back when it ends.
  if (slot.state == State::kRunning) return {};
  slot.state = State::kDone;
  used_ -= slot.place.stored_bytes;
  return std::exchange(slot.bytes, {});
}

}  // namespace mnemo
