// The three orders. LRU: the list is the order of last use. SIEVE (Zhang et
// al., NSDI 2024): a hand walks from the oldest to the newest, spares who was
// used, and takes the first who was not. S3-FIFO (Yang et al., SOSP 2023): a
// small queue for newcomers, a main queue for who was used there, and a memory
// of who left the small one.
#include "storage/policy/eviction_policy.h"

#include <fmt/format.h>

#include "storage/policy/chain_policy.h"
#include "storage/policy/ghost_table.h"

namespace mnemo {
namespace {

class LruPolicy final : public ChainPolicy {
 public:
  LruPolicy(Level level, EntryLinkTable& table) : ChainPolicy(level, table), list_(table, level) {}

 private:
  void Admit(EntryId id, Links& /*links*/, EntryId parent, uint64_t /*fingerprint*/) override {
    list_.InsertBehind(id, parent);
  }
  void Return(EntryId id, Links& /*links*/, bool used) override {
    used ? list_.PushHead(id) : list_.PushTail(id);
  }
  void Unlink(EntryId id, Links& /*links*/) override { list_.Unlink(id); }
  void Used(EntryId id, Links& /*links*/) override {
    if (list_.head() == id) return;
    list_.Unlink(id);
    list_.PushHead(id);
  }
  EntryId Candidate() override { return list_.tail(); }

  EntryList list_;
};

class SievePolicy final : public ChainPolicy {
 public:
  SievePolicy(Level level, EntryLinkTable& table)
      : ChainPolicy(level, table), list_(table, level) {}

 private:
  void Admit(EntryId id, Links& /*links*/, EntryId parent, uint64_t /*fingerprint*/) override {
    list_.InsertBehind(id, parent);
  }

  // On the tail side of the hand, where the hand has been already; who was not
  // used meanwhile comes under the hand at once.
  void Return(EntryId id, Links& links, bool used) override {
    links.frequency = 0;
    if (hand_ == kNoEntry) {
      used ? list_.PushHead(id) : list_.PushTail(id);
      return;
    }
    list_.InsertBefore(id, links_of(hand_).next);
    if (!used) hand_ = id;
  }

  void Unlink(EntryId id, Links& links) override {
    if (hand_ == id) hand_ = links.prev;
    list_.Unlink(id);
  }
  void Used(EntryId /*id*/, Links& links) override { links.frequency = 1; }

  EntryId Candidate() override {
    if (hand_ == kNoEntry) hand_ = list_.tail();
    for (uint32_t spared = 0; hand_ != kNoEntry; ++spared) {
      Links& links = links_of(hand_);
      if (links.frequency == 0 || spared == kMaxSpared) return hand_;
      links.frequency = 0;
      hand_ = links.prev == kNoEntry ? list_.tail() : links.prev;
    }
    return kNoEntry;
  }

  Links& links_of(EntryId id) { return list_.At(id); }

  EntryList list_;
  EntryId hand_ = kNoEntry;  // whom to look at next; kNoEntry: the tail
};

class S3FifoPolicy final : public ChainPolicy {
 public:
  S3FifoPolicy(Level level, EntryLinkTable& table)
      : ChainPolicy(level, table), small_(table, level), main_(table, level) {}

  uint64_t MemoryBytes() const override { return ghosts_.MemoryBytes(); }

 private:
  // Half of the bytes, not the paper's tenth: blocks of a conversation come back
  // after its next turn, later than a tenth would wait. The decision record on
  // the default policy has the figures.
  static constexpr uint64_t kSmallShare = 2;
  static constexpr uint8_t kMaxFrequency = 3;

  void Admit(EntryId id, Links& links, EntryId parent, uint64_t fingerprint) override {
    links.main_queue = ghosts_.Take(fingerprint);
    EntryList& list = Of(links);
    const bool together = parent != kNoEntry && list.At(parent).main_queue == links.main_queue;
    list.InsertBehind(id, together ? parent : kNoEntry);
  }
  void Return(EntryId id, Links& links, bool used) override {
    if (used) links.main_queue = 1;
    used ? Of(links).PushHead(id) : Of(links).PushTail(id);
  }
  void Unlink(EntryId id, Links& links) override { Of(links).Unlink(id); }
  void Used(EntryId /*id*/, Links& links) override {
    if (links.frequency < kMaxFrequency) links.frequency = (links.frequency + 1) & 3;
  }

  EntryId Candidate() override {
    for (uint32_t spared = 0; small_.tail() != kNoEntry || main_.tail() != kNoEntry; ++spared) {
      const bool small_is_full = small_.weight() * kSmallShare >= small_.weight() + main_.weight();
      const bool from_small =
          small_.tail() != kNoEntry && (small_is_full || main_.tail() == kNoEntry);
      EntryList& list = from_small ? small_ : main_;
      const EntryId id = list.tail();
      Links& links = list.At(id);
      if (links.frequency == 0 || spared == kMaxSpared) return id;
      list.Unlink(id);
      if (from_small) {
        links.main_queue = 1;
        links.frequency = 0;
      } else {
        links.frequency = (links.frequency - 1) & 3;
      }
      main_.PushHead(id);
    }
    return kNoEntry;
  }

  void Evicted(Links& links, uint64_t fingerprint) override {
    if (!links.main_queue) ghosts_.Add(fingerprint, entries_);
  }

  EntryList& Of(const Links& links) { return links.main_queue ? main_ : small_; }

  EntryList small_;
  EntryList main_;
  GhostTable ghosts_;
};

}  // namespace

absl::StatusOr<PolicyKind> ParsePolicyKind(std::string_view name) {
  for (const PolicyKind kind : {PolicyKind::kLru, PolicyKind::kSieve, PolicyKind::kS3Fifo}) {
    if (name == PolicyName(kind)) return kind;
  }
  return absl::InvalidArgumentError(
      fmt::format("eviction_policy is \"{}\", not lru, sieve or s3fifo", name));
}

std::string_view PolicyName(PolicyKind kind) {
  switch (kind) {
    case PolicyKind::kLru:
      return "lru";
    case PolicyKind::kSieve:
      return "sieve";
    case PolicyKind::kS3Fifo:
      return "s3fifo";
  }
  return {};
}

std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(PolicyKind kind, Level level,
                                                   EntryLinkTable& links) {
  switch (kind) {
    case PolicyKind::kLru:
      return std::make_unique<LruPolicy>(level, links);
    case PolicyKind::kSieve:
      return std::make_unique<SievePolicy>(level, links);
    case PolicyKind::kS3Fifo:
      return std::make_unique<S3FifoPolicy>(level, links);
  }
  return nullptr;
}

}  // namespace mnemo
