// What every policy shares: who is resident, held, parked under its children,
// or gone from its window. A policy of its own says in which order the rest go.
#pragma once

#include <cstdint>
#include <optional>

#include "storage/policy/eviction_policy.h"

namespace mnemo {

// A list through the links of one set. The head is the side where entries come
// in, the tail the side where they leave; `next` leads to the tail.
class EntryList {
 public:
  EntryList(EntryLinkTable& table, Level level)
      : table_(&table), set_(EntryLinkTable::SetOf(level)) {}

  void PushHead(EntryId id) { InsertBefore(id, head_); }
  void PushTail(EntryId id) { InsertBefore(id, kNoEntry); }
  // On the head side of `at`; kNoEntry: at the tail.
  void InsertBefore(EntryId id, EntryId at);
  // On the tail side of `at`; kNoEntry: at the head.
  void InsertBehind(EntryId id, EntryId at) {
    InsertBefore(id, at == kNoEntry ? head_ : At(at).next);
  }
  void Unlink(EntryId id);

  EntryId head() const { return head_; }
  EntryId tail() const { return tail_; }
  uint64_t weight() const { return weight_; }
  EntryLinkTable::Links& At(EntryId id) const { return table_->At(id).sets[set_]; }

 private:
  EntryLinkTable* table_;
  size_t set_;
  EntryId head_ = kNoEntry;
  EntryId tail_ = kNoEntry;
  uint64_t weight_ = 0;  // as DecodeWeight sees it
};

class ChainPolicy : public EvictionPolicy {
 public:
  void Insert(EntryId id, EntryId parent, uint64_t bytes, uint64_t fingerprint) final;
  void Remove(EntryId id, bool evicted, uint64_t fingerprint) final;
  void Touch(EntryId id) final;
  std::optional<EntryId> Victim() final;
  void Release(EntryId id) final;
  void MarkLeftWindow(EntryId id) final;
  uint64_t entries() const final { return entries_; }
  uint64_t MemoryBytes() const override { return 0; }

 protected:
  using Links = EntryLinkTable::Links;
  using Queue = EntryLinkTable::Queue;

  ChainPolicy(Level level, EntryLinkTable& table)
      : table_(table), level_(level), left_window_(table, level) {}

  // A new entry comes into the order. `parent` is kNoEntry unless it came in just
  // before and is linked still: then the entry belongs behind it, so that a chain
  // put in one go lies with its leaf toward the tail.
  virtual void Admit(EntryId id, Links& links, EntryId parent, uint64_t fingerprint) = 0;
  // One that was out comes back: used meanwhile, or next to leave.
  virtual void Return(EntryId id, Links& links, bool used) = 0;
  virtual void Unlink(EntryId id, Links& links) = 0;
  virtual void Used(EntryId id, Links& links) = 0;
  // Who is next, still linked; kNoEntry if nobody is linked.
  virtual EntryId Candidate() = 0;
  virtual void Evicted(Links& /*links*/, uint64_t /*fingerprint*/) {}

  // How many used entries one Victim may spare before it takes the next all the
  // same: when all are used, that says nothing, and a walk over all of them
  // would hold the lock for long.
  static constexpr uint32_t kMaxSpared = 4096;

  EntryLinkTable& table_;
  const Level level_;
  uint64_t entries_ = 0;

 private:
  // Null unless the entry is resident at this level.
  Links* Resident(EntryId id);
  void UnlinkAny(EntryId id, Links& links);
  void Hold(EntryId id, Links& links, Queue queue);
  void PutBack(EntryId id, Links& links);

  EntryList left_window_;
  EntryId last_admitted_ = kNoEntry;
};

}  // namespace mnemo
