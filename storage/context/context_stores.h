// The ordered stores that contexts lie in.
#pragma once

#include "storage/base/level.h"
#include "storage/context/context_types.h"
#include "storage/tier/store.h"

namespace mnemo {

// Names, records and what is kSync lie in `sync`; what is kInterval in
// `interval`, so that its writes wait for no disk. All outlive their users.
struct ContextStores {
  Store* sync = nullptr;
  Store* interval = nullptr;
  // Where embeddings of cold chunks go; null: they stay where they are.
  Store* sync_archive = nullptr;
  Store* interval_archive = nullptr;

  Store& Of(Durability durability) const {
    return durability == Durability::kSync ? *sync : *interval;
  }
  Store& Of(const ContextRecord& context) const { return Of(context.spec.durability); }
  Store* ArchiveOf(Durability durability) const {
    return durability == Durability::kSync ? sync_archive : interval_archive;
  }
};

}  // namespace mnemo
