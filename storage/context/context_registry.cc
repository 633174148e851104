#include "storage/context/context_registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "storage/base/status_macros.h"
#include "storage/context/context_keys.h"
#include "storage/context/context_record.h"

namespace mnemo {
namespace {

// Ids are never reused: 64 random bits, and never 0, which means "none".
uint64_t RandomId() {
  std::random_device entropy;
  uint64_t id = 0;
  while (id == 0) id = (uint64_t{entropy()} << 32) | entropy();
  return id;
}

std::string EncodeId(uint64_t id) {
  std::string value;
  AppendLittle<uint64_t>(value, id);
  return value;
}

bool Carries(const Labels& labels, const Labels& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& label) {
    return std::find(labels.begin(), labels.end(), label) != labels.end();
  });
}

}  // namespace

absl::StatusOr<std::pair<ContextRecord, bool>> ContextRegistry::Create(uint64_t tenant,
                                                                       const ContextSpec& spec) {
  MNEMO_RETURN_IF_ERROR(spec.Validate());
  MutexLock lock(LockOf(tenant));
  absl::StatusOr<ContextRecord> present = ByName(tenant, spec.name);
  if (present.ok()) {
    const std::string difference = FirstDifference(present->spec, spec);
    MNEMO_RETURN_IF_ERROR(store_.Writable());
    if (difference.empty()) return std::pair(*std::move(present), false);
    return absl::FailedPreconditionError(
        fmt::format("context '{}' is there and differs: {}", spec.name, difference));
  }
  if (!absl::IsNotFound(present.status())) return present.status();
  ContextRecord record{.scope = {.tenant = tenant, .space = RandomId()},
                       .spec = spec,
                       .created_unix_us = clock_.Wall().nanos / 1000};
  const StoredKey key = RecordKey(record.scope);
  std::string value = EncodeRecord(record, SeedOf(key));
  StoreBatch batch;
  batch.Log({.shard = key.shard(),
             .kind = OperationKind::kPutContext,
             .key = key.bytes(),
             .payload = value});
  batch.Put(key, std::move(value));
  batch.Put(NameKey(tenant, spec.name), EncodeId(record.scope.space));
  for (const auto& [label, text] : spec.labels) {
    batch.Put(LabelKey(tenant, label, text, spec.name), EncodeId(record.scope.space));
  }
  MNEMO_RETURN_IF_ERROR(store_.Apply(batch, /*sync=*/true));
  return std::pair(std::move(record), true);
}

absl::StatusOr<ContextRecord> ContextRegistry::ById(uint64_t tenant, uint64_t id) const {
  const KeyScope scope{.tenant = tenant, .space = id};
  const StoredKey key = RecordKey(scope);
  const absl::StatusOr<std::string> value = store_.Get(key);
  if (absl::IsNotFound(value.status())) {
    MNEMO_RETURN_IF_ERROR(store_.Writable());
    return absl::NotFoundError(fmt::format("no context with id {:016x}", id));
  }
  if (!value.ok()) return value.status();
  return DecodeRecord(scope, AsBytes(*value), SeedOf(key));
}

absl::StatusOr<ContextRecord> ContextRegistry::ByName(uint64_t tenant,
                                                      const std::string& name) const {
  const absl::StatusOr<std::string> value = store_.Get(NameKey(tenant, name));
  if (absl::IsNotFound(value.status())) {
    MNEMO_RETURN_IF_ERROR(store_.Writable());
    return absl::NotFoundError(fmt::format("no context named '{}'", name));
  }
  if (!value.ok()) return value.status();
  if (value->size() != sizeof(uint64_t)) return absl::DataLossError("context name: cut short");
  return ById(tenant, LoadLittle<uint64_t>(value->data()));
}

absl::StatusOr<std::vector<ContextRecord>> ContextRegistry::List(uint64_t tenant,
                                                                 const Labels& labels,
                                                                 const std::string& after,
                                                                 size_t limit) const {
  const StoredKey prefix = labels.empty()
                               ? NameKey(tenant, "")
                               : LabelKey(tenant, labels.front().first, labels.front().second, "");
  const std::string end = PrefixEnd(prefix.bytes());
  std::string begin = prefix.bytes() + after;
  if (!after.empty()) begin.push_back('\0');  // behind it
  std::vector<ContextRecord> page;
  bool more = true;
  while (more && page.size() < limit) {
    more = false;
    std::vector<uint64_t> ids;
    const auto collect = [&](const StoredKey& key, std::string_view value) {
      if (value.size() == sizeof(uint64_t)) ids.push_back(LoadLittle<uint64_t>(value.data()));
      begin = key.bytes() + '\0';
      more = ids.size() == limit;
      return !more;
    };
    MNEMO_RETURN_IF_ERROR(store_.Scan(begin, end, collect));
    for (const uint64_t id : ids) {
      absl::StatusOr<ContextRecord> record = ById(tenant, id);
      if (absl::IsNotFound(record.status())) continue;  // deleted since
      if (!record.ok()) return record.status();
      if (page.size() < limit && Carries(record->spec.labels, labels)) {
        page.push_back(*std::move(record));
      }
    }
  }
  return page;
}

absl::StatusOr<std::vector<ContextRecord>> ContextRegistry::Sweep(std::string& cursor,
                                                                  size_t limit) const {
  std::vector<ContextRecord> page;
  const auto collect = [&](const StoredKey& key, std::string_view value) {
    // Behind it, whether it decodes or not: one that is damaged stops no sweep.
    cursor = key.bytes() + '\0';
    absl::StatusOr<ContextRecord> record = DecodeRecord(key.scope(), AsBytes(value), SeedOf(key));
    if (record.ok()) page.push_back(*std::move(record));
    return page.size() < limit;
  };
  uint16_t shard = cursor.empty() ? 0 : LoadBig<uint16_t>(cursor.data());
  for (; shard < kShardCount && page.size() < limit; ++shard) {
    std::string prefix;
    AppendBig<uint16_t>(prefix, shard);
    prefix.push_back(static_cast<char>(KeyKind::kContext));
    MNEMO_RETURN_IF_ERROR(store_.Scan(std::max(prefix, cursor), PrefixEnd(prefix), collect));
  }
  if (page.size() < limit) cursor.clear();
  return page;
}

absl::StatusOr<bool> ContextRegistry::Remove(const ContextRecord& context, uint64_t tokens) {
  MutexLock lock(LockOf(context.scope.tenant));
  const absl::Status present = ById(context.scope.tenant, context.scope.space).status();
  if (absl::IsNotFound(present)) return false;
  MNEMO_RETURN_IF_ERROR(present);
  const StoredKey key = RecordKey(context.scope);
  StoreBatch batch;
  batch.Log({.shard = key.shard(), .kind = OperationKind::kDeleteContext, .key = key.bytes()});
  batch.Delete(key);
  batch.Delete(NameKey(context.scope.tenant, context.spec.name));
  for (const auto& [label, text] : context.spec.labels) {
    batch.Delete(LabelKey(context.scope.tenant, label, text, context.spec.name));
  }
  const StoredKey erased = ErasedKey(context.scope);
  batch.Put(erased, EncodeErased({context.spec.durability, tokens}, SeedOf(erased)));
  MNEMO_RETURN_IF_ERROR(store_.Apply(batch, /*sync=*/true));
  return true;
}

}  // namespace mnemo
