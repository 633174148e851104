#include "storage/policy/chain_policy.h"

#include "storage/base/status_macros.h"

namespace mnemo {

void EntryList::InsertBefore(EntryId id, EntryId at) {
  EntryLinkTable::Links& links = At(id);
  links.next = at;
  links.prev = at == kNoEntry ? tail_ : At(at).prev;
  (links.prev == kNoEntry ? head_ : At(links.prev).next) = id;
  (at == kNoEntry ? tail_ : At(at).prev) = id;
  weight_ += EntryLinkTable::DecodeWeight(links.weight);
}

void EntryList::Unlink(EntryId id) {
  EntryLinkTable::Links& links = At(id);
  (links.prev == kNoEntry ? head_ : At(links.prev).next) = links.next;
  (links.next == kNoEntry ? tail_ : At(links.next).prev) = links.prev;
  links.prev = links.next = kNoEntry;
  weight_ -= EntryLinkTable::DecodeWeight(links.weight);
}

ChainPolicy::Links* ChainPolicy::Resident(EntryId id) {
  if (id == kNoEntry) return nullptr;
  EntryLinkTable::Node* const node = table_.Find(id);
  if (node == nullptr) return nullptr;
  if (!EntryLinkTable::IsAt(*node, level_)) return nullptr;
  return &node->sets[EntryLinkTable::SetOf(level_)];
}

void ChainPolicy::Insert(EntryId id, EntryId parent, uint64_t bytes, uint64_t fingerprint) {
  if (Resident(id) != nullptr) return;
  EntryLinkTable::Node& node = table_.At(id);
  Links& links = node.sets[EntryLinkTable::SetOf(level_)];
  // At the other level of the set it would be in two lists through one link.
  MNEMO_CHECK(links.queue == static_cast<uint8_t>(Queue::kNone));
  node.parent = parent;
  if (parent != kNoEntry) table_.AddResidentChild(parent, level_);
  links.far_level = EntryLinkTable::IsFar(level_);
  links.weight = EntryLinkTable::EncodeWeight(bytes);
  links.queue = static_cast<uint8_t>(Queue::kQueued);
  links.frequency = 0;
  links.main_queue = 0;
  links.left_window = 0;
  links.used_while_out = 0;
  ++entries_;
  const Links* const above = parent == last_admitted_ ? Resident(parent) : nullptr;
  const bool follows = above != nullptr && !above->left_window &&
                       above->queue == static_cast<uint8_t>(Queue::kQueued);
  last_admitted_ = id;
  Admit(id, links, follows ? parent : kNoEntry, fingerprint);
}

void ChainPolicy::UnlinkAny(EntryId id, Links& links) {
  if (links.queue != static_cast<uint8_t>(Queue::kQueued)) return;
  if (links.left_window) {
    left_window_.Unlink(id);
  } else {
    Unlink(id, links);
  }
}

void ChainPolicy::Remove(EntryId id, bool evicted, uint64_t fingerprint) {
  Links* const links = Resident(id);
  if (links == nullptr) return;
  UnlinkAny(id, *links);
  links->queue = static_cast<uint8_t>(Queue::kNone);
  --entries_;
  if (evicted) Evicted(*links, fingerprint);

  const EntryId parent = table_.At(id).parent;
  if (parent == kNoEntry || table_.RemoveResidentChild(parent, level_) > 0) return;
  Links* const above = Resident(parent);
  if (above != nullptr && above->queue == static_cast<uint8_t>(Queue::kParked)) {
    PutBack(parent, *above);
  }
}

void ChainPolicy::Touch(EntryId id) {
  Links* const links = Resident(id);
  if (links == nullptr) return;
  if (links->queue != static_cast<uint8_t>(Queue::kQueued)) {
    links->left_window = 0;
    links->used_while_out = 1;
    return;
  }
  if (links->left_window) {
    left_window_.Unlink(id);
    links->left_window = 0;
    Return(id, *links, /*used=*/true);
    return;
  }
  Used(id, *links);
}

std::optional<EntryId> ChainPolicy::Victim() {
  const EntryId gone = left_window_.tail();
  if (gone != kNoEntry) {
    Hold(gone, left_window_.At(gone), Queue::kHeld);
    return gone;
  }
  while (true) {
    const EntryId id = Candidate();
    if (id == kNoEntry) return std::nullopt;
    Links& links = *Resident(id);
    if (table_.ResidentChildren(id, level_) == 0) {
      Hold(id, links, Queue::kHeld);
      return id;
    }
    Hold(id, links, Queue::kParked);
  }
}

void ChainPolicy::Hold(EntryId id, Links& links, Queue queue) {
  UnlinkAny(id, links);
  links.queue = static_cast<uint8_t>(queue);
  links.used_while_out = 0;
}

void ChainPolicy::Release(EntryId id) {
  Links* const links = Resident(id);
  if (links == nullptr || links->queue != static_cast<uint8_t>(Queue::kHeld)) return;
  if (!links->left_window && table_.ResidentChildren(id, level_) > 0) {
    links->queue = static_cast<uint8_t>(Queue::kParked);
    return;
  }
  PutBack(id, *links);
}

void ChainPolicy::PutBack(EntryId id, Links& links) {
  links.queue = static_cast<uint8_t>(Queue::kQueued);
  if (links.left_window) {
    left_window_.PushTail(id);
  } else {
    Return(id, links, links.used_while_out);
  }
}

void ChainPolicy::MarkLeftWindow(EntryId id) {
  Links* const links = Resident(id);
  if (links == nullptr || links->left_window) return;
  UnlinkAny(id, *links);
  links->left_window = 1;
  if (links->queue == static_cast<uint8_t>(Queue::kHeld)) return;
  links->queue = static_cast<uint8_t>(Queue::kQueued);
  left_window_.PushHead(id);
}

}  // namespace mnemo
