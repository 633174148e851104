#include "storage/tier/stored_key.h"

#include <utility>

namespace mnemo {

StoredKey::StoredKey(uint16_t shard, KeyKind kind, KeyScope scope, std::string_view suffix) {
  bytes_.reserve(kPrefixSize + suffix.size());
  AppendBig<uint16_t>(bytes_, shard);
  bytes_.push_back(static_cast<char>(kind));
  AppendBig<uint64_t>(bytes_, scope.tenant);
  AppendBig<uint64_t>(bytes_, scope.space);
  bytes_.append(suffix);
}

StoredKey StoredKey::FromBytes(std::string bytes) {
  StoredKey key;
  key.bytes_ = std::move(bytes);
  return key;
}

bool StoredKey::valid() const {
  return bytes_.size() >= kPrefixSize && shard() < kShardCount && kind() >= KeyKind::kBlock &&
         kind() <= KeyKind::kCalibration;
}

std::string PrefixEnd(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && static_cast<uint8_t>(end.back()) == 0xff) end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<uint8_t>(end.back()) + 1);
  return end;
}

}  // namespace mnemo
