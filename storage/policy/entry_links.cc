#include "storage/policy/entry_links.h"

#include <algorithm>
#include <bit>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr uint32_t kMantissaBits = 3;

uint32_t SlotOf(EntryId id, uint32_t slot_bits) { return id & ((1u << slot_bits) - 1); }

}  // namespace

EntryLinkTable::Node& EntryLinkTable::At(EntryId id) {
  auto& pages = pages_[id >> kSlotBits];
  const uint32_t slot = SlotOf(id, kSlotBits);
  const size_t page = slot / kPageNodes;
  if (page >= pages.size()) {
    memory_bytes_ -= pages.capacity() * sizeof(pages[0]);
    pages.resize(page + 1);
    memory_bytes_ += pages.capacity() * sizeof(pages[0]);
  }
  if (pages[page] == nullptr) {
    pages[page] = std::make_unique<Node[]>(kPageNodes);
    memory_bytes_ += kPageNodes * sizeof(Node);
  }
  return pages[page][slot % kPageNodes];
}

EntryLinkTable::Node* EntryLinkTable::Find(EntryId id) {
  auto& pages = pages_[id >> kSlotBits];
  const uint32_t slot = SlotOf(id, kSlotBits);
  const size_t page = slot / kPageNodes;
  if (page >= pages.size() || pages[page] == nullptr) return nullptr;
  return &pages[page][slot % kPageNodes];
}

uint32_t EntryLinkTable::ResidentChildren(EntryId id, Level level) {
  const Node* const node = Find(id);
  if (node == nullptr) return 0;
  const uint8_t count = node->sets[SetOf(level)].resident_children[IsFar(level)];
  if (count < kSpilled) return count;
  return kSpilled + spilled_.at(SpillKey(id, level));
}

void EntryLinkTable::AddResidentChild(EntryId id, Level level) {
  uint8_t& count = At(id).sets[SetOf(level)].resident_children[IsFar(level)];
  if (count == kSpilled) {
    ++spilled_[SpillKey(id, level)];
    return;
  }
  if (++count == kSpilled) spilled_.emplace(SpillKey(id, level), 0);
}

uint32_t EntryLinkTable::RemoveResidentChild(EntryId id, Level level) {
  uint8_t& count = At(id).sets[SetOf(level)].resident_children[IsFar(level)];
  MNEMO_CHECK(count > 0);
  if (count == kSpilled) {
    const auto more = spilled_.find(SpillKey(id, level));
    if (more->second > 0) return kSpilled + --more->second;
    spilled_.erase(more);
  }
  return --count;
}

uint8_t EntryLinkTable::EncodeWeight(uint64_t bytes) {
  // Below eight the mantissa alone; above, its leading one is implied.
  if (bytes < 1u << kMantissaBits) return static_cast<uint8_t>(bytes);
  const uint32_t exponent = static_cast<uint32_t>(std::bit_width(bytes)) - kMantissaBits;
  if (exponent > 31) return 0xff;
  const uint32_t mantissa = (bytes >> (exponent - 1)) & ((1u << kMantissaBits) - 1);
  return static_cast<uint8_t>(exponent << kMantissaBits | mantissa);
}

uint64_t EntryLinkTable::DecodeWeight(uint8_t weight) {
  const uint32_t exponent = weight >> kMantissaBits;
  const uint64_t mantissa = weight & ((1u << kMantissaBits) - 1);
  if (exponent == 0) return mantissa;
  return (mantissa + (1u << kMantissaBits)) << (exponent - 1);
}

}  // namespace mnemo
