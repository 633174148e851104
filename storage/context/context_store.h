// Streams of token embeddings, durable and exactly once.
//
// Everything lies in ordered stores (storage/tier/store.h) under the keys of
// docs/formats/context.md: no file per context, and a context that nobody uses
// takes no memory at all. Tokens are stored as they come: whole chunks of 128
// as two values (the small columns, the embeddings); a chunk's unfinished tail
// as fragments, one for each append, until the append that completes the chunk
// replaces them by the whole. So each token is written at most twice, however
// small the appends are.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/clock.h"
#include "storage/base/mutex.h"
#include "storage/context/changed_contexts.h"
#include "storage/context/chunk_cache.h"
#include "storage/context/context_eraser.h"
#include "storage/context/context_reader.h"
#include "storage/context/context_record.h"
#include "storage/context/context_registry.h"
#include "storage/context/context_stores.h"
#include "storage/context/context_types.h"

namespace mnemo {

struct ContextStoreOptions {
  // RAM for embeddings of whole chunks that were read; 0: none.
  uint64_t cache_bytes = 64ull << 20;
  // RAM for what filters ask of tokens; 0: it is read for every search.
  uint64_t columns_bytes = 8ull << 20;
};

// A claim of a context by a writer. A later claim makes it void.
struct WriterClaim {
  uint64_t writer = 0;
  uint64_t claim = 0;
  uint64_t next_position = 0;  // where the next batch has to begin
};

struct AppendResult {
  uint64_t next_position = 0;
  bool repeated = false;  // the same tokens were here already
};

// Thread-safe. Every method blocks on the disk. Errors of all: kNotFound (no
// such context), kDataLoss (naming context and positions), and those of Store.
//
// Locks: changes of one context are in order under the mutex of its home shard,
// which is held across the store, whose own order of a shard holds them up
// anyway (docs/decisions/0081). Readers take none of them.
class ContextStore {
 public:
  // Borrows all.
  ContextStore(const ContextStores& stores, const Clock& clock, const ContextStoreOptions& options);

  // -- Which contexts there are.

  // Gets or creates; durable on return; one winner among any number of callers.
  // Errors: kInvalidArgument, kFailedPrecondition (a field differs; both values
  // are named).
  absl::StatusOr<std::pair<ContextRecord, bool>> Create(uint64_t tenant, const ContextSpec& spec) {
    return registry_.Create(tenant, spec);
  }
  absl::StatusOr<ContextRecord> ById(uint64_t tenant, uint64_t id) const {
    return registry_.ById(tenant, id);
  }
  absl::StatusOr<ContextRecord> ByName(uint64_t tenant, const std::string& name) const {
    return registry_.ByName(tenant, name);
  }
  // By name, after `after` (exclusive), at most `limit`, all of `labels` on them.
  absl::StatusOr<std::vector<ContextRecord>> List(uint64_t tenant, const Labels& labels,
                                                  const std::string& after, size_t limit) const {
    return registry_.List(tenant, labels, after, limit);
  }

  // All contexts of all tenants in the order of their keys, at most `limit` of
  // them behind `cursor`, which moves on; empty: from the first, and again when
  // there are no more. For workers.
  absl::StatusOr<std::vector<ContextRecord>> Sweep(std::string& cursor, size_t limit) const {
    return registry_.Sweep(cursor, limit);
  }

  // -- Writing.

  // Makes `writer` (not 0) the context's only writer. As durable as the context.
  // Errors: kInvalidArgument, kFailedPrecondition (sealed).
  absl::StatusOr<WriterClaim> Claim(const ContextRecord& context, uint64_t writer);
  // Stores a batch whole or not at all, as durable as the stronger of
  // `durability` and the context's class. Tokens that are there already, all of
  // them and the same, are acknowledged. Errors: those of ValidateColumns;
  // kOutOfRange (a gap; the expected position is named), kAlreadyExists (other
  // tokens are there, or some only), kAborted (claimed since),
  // kFailedPrecondition (sealed), kResourceExhausted (SetFull).
  absl::StatusOr<AppendResult> Append(const ContextRecord& context, const WriterClaim& claim,
                                      const TokenColumns& tokens, Durability durability);
  // While it is true, no new tokens are taken, of any context: there is no room
  // for them.
  void SetFull(bool full) { full_ = full; }
  uint64_t refused_appends() const { return refused_appends_; }
  // Nothing is appended from now on. Durable on return. Returns the number of
  // tokens. Idempotent.
  absl::StatusOr<uint64_t> Seal(const ContextRecord& context);
  // Idempotent; as durable as the context. Errors: kInvalidArgument,
  // kOutOfRange (beyond the end).
  absl::Status PutLink(const ContextRecord& context, const ContextLink& link);

  // At once nothing of it is found or read any more; EraseStep gives its space
  // back. Durable on return. Returns the number of tokens; 0 if it was not
  // there.
  absl::StatusOr<uint64_t> Delete(const ContextRecord& context);
  // Runs `change`, in order with all changes of the context, if the context is
  // there: for workers, whose writes must not follow a deletion. `change` calls
  // no method of this class that changes a context. Errors: kNotFound, and those
  // of `change`.
  absl::Status ChangeIfThere(const ContextRecord& context,
                             const std::function<absl::Status()>& change);
  // Contexts that have another whole chunk, or were deleted, since a worker looked.
  ChangedContexts& changed() { return changed_; }
  // As ContextEraser::Step.
  absl::StatusOr<bool> EraseStep() { return eraser_.Step(); }

  // -- Reading. What is read while the context is deleted may be kDataLoss.

  const ContextReader& reader() const { return reader_; }
  const ChunkCache& cache() const { return cache_; }
  ChunkCache& cache() { return cache_; }
  const ContextStores& stores() const { return stores_; }
  RunUses& uses() { return uses_; }

 private:
  // The head of a context that is there, under its lock.
  absl::StatusOr<ContextHead> HeadForChange(const ContextRecord& context) const;
  void PutHead(const ContextRecord& context, const ContextHead& head, StoreBatch& batch) const;
  absl::StatusOr<AppendResult> CheckRepeat(const ContextRecord& context, const ContextHead& head,
                                           const TokenColumns& tokens, uint64_t digest) const;
  absl::Status Write(const ContextRecord& context, const TokenColumns& tokens, ContextHead& head,
                     bool sync);
  absl::StatusOr<bool> SameTokens(const ContextRecord& context, const TokenColumns& tokens) const;
  Mutex& LockOf(const ContextRecord& context);

  const ContextStores stores_;
  const Clock& clock_;
  ChunkCache cache_;
  RunColumnsCache columns_;
  RunUses uses_;
  ContextRegistry registry_;
  ContextReader reader_;
  ContextEraser eraser_;
  ChangedContexts changed_;
  std::atomic<bool> full_ = false;
  std::atomic<uint64_t> refused_appends_ = 0;
  std::array<Mutex, kShardCount> locks_;  // by home shard
};

}  // namespace mnemo
