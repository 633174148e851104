// Reads what a context holds.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/base/level.h"
#include "storage/context/chunk.h"
#include "storage/context/chunk_cache.h"
#include "storage/context/context_record.h"
#include "storage/context/context_stores.h"
#include "storage/context/run_columns.h"
#include "storage/context/run_uses.h"
#include "storage/context/summary_reader.h"
#include "storage/context/tree_node.h"

namespace mnemo {

// Consecutive tokens of one chunk: a complete one or some groups of it, or a
// fragment of an unfinished one.
struct ChunkPiece {
  ChunkColumns columns;
  ChunkCache::RowsPtr rows;  // null unless asked for
  Level level = Level::kL3;  // where the embeddings were found
};

// Thread-safe; takes no lock of writers. Borrows all. In all methods `end` is
// exclusive, and what lies behind the end of the context is left out. Errors of
// all: kDataLoss (naming context and positions), and those of Store.
class ContextReader {
 public:
  ContextReader(const ContextStores& stores, ChunkCache& cache, RunColumnsCache& columns,
                RunUses& uses)
      : stores_(stores), cache_(cache), columns_(columns), uses_(uses), summaries_(stores) {}

  absl::StatusOr<ContextHead> Head(const ContextRecord& context) const;

  // The pieces that touch [first, end), in order, until `visit` returns false.
  // Reads some MiB at a time; what is read here does not push others out of the
  // cache.
  absl::Status ScanChunks(const ContextRecord& context, uint64_t first, uint64_t end,
                          bool with_rows, const std::function<bool(ChunkPiece&)>& visit) const;
  // The embedding of the token at `position` and those that are stored with it,
  // in pieces by position, and where they were found. Behind the end, none that
  // has it. What was read is cached by groups; it is no use of its run, since a
  // search looks at candidates almost everywhere.
  absl::StatusOr<std::vector<ChunkCache::RowsPtr>> ReadRows(const ContextRecord& context,
                                                            uint64_t position,
                                                            Level* level = nullptr) const;

  // What filters ask of runs [first_run, end_run), which are complete. What was
  // read is cached.
  absl::StatusOr<std::vector<RunColumnsCache::Ptr>> ReadColumns(const ContextRecord& context,
                                                                uint64_t first_run,
                                                                uint64_t end_run) const;

  // The run that `position` lies in was of use to somebody: read, or found.
  void NoteUse(const ContextRecord& context, uint64_t position) const {
    uses_.Note(context.scope, position / kRunTokens);
  }
  // Where the embeddings of a token that is there would be read from.
  absl::StatusOr<Level> LevelOf(const ContextRecord& context, uint64_t position) const;
  // Bit i: the embeddings of run i of this range lie in the archive.
  absl::StatusOr<uint64_t> ArchivedRuns(const ContextRecord& context, uint64_t range) const;
  const SummaryReader& summaries() const { return summaries_; }

  // What is known of [first, end): from O(4 log4 n) stored nodes and at most two
  // chunks.
  absl::StatusOr<TreeNode> Summarize(const ContextRecord& context, uint64_t first,
                                     uint64_t end) const;

  // The payload that covers `position`.
  absl::StatusOr<std::optional<StoredPayload>> PayloadAt(const ContextRecord& context,
                                                         uint64_t position) const;
  // Payloads that touch [first, end), in order, until `visit` returns false.
  absl::Status ScanPayloads(const ContextRecord& context, uint64_t first, uint64_t end,
                            const std::function<bool(StoredPayload&)>& visit) const;
  // Links that touch [first, end), in order of their last positions.
  absl::StatusOr<std::vector<ContextLink>> Links(const ContextRecord& context, uint64_t first,
                                                 uint64_t end) const;

 private:
  absl::Status ReadWindow(const ContextRecord& context, uint64_t range, uint64_t first_chunk,
                          uint64_t end_chunk, bool with_rows,
                          std::vector<ChunkPiece>& pieces) const;
  // Of a chunk that the head says is complete: with rows, the groups that touch
  // [first, end), which lies in it; without, all.
  absl::StatusOr<ChunkPiece> ReadCompleteChunk(const ContextRecord& context, uint64_t first,
                                               uint64_t end, bool with_rows) const;
  // As ReadRows, past the cache.
  absl::StatusOr<std::vector<ChunkCache::RowsPtr>> ReadStoredRows(const ContextRecord& context,
                                                                  uint64_t position,
                                                                  Level& level) const;
  absl::StatusOr<ChunkCache::RowsPtr> DecodeRows(const ContextRecord& context, const StoredKey& key,
                                                 std::string value, Level& level) const;
  // The embeddings that a mark stands for, and where they were found.
  absl::StatusOr<std::string> ReadMoved(const ContextRecord& context, const StoredKey& key,
                                        Level& level) const;
  absl::StatusOr<TreeNode> ReadNode(const ContextRecord& context, uint8_t level,
                                    uint64_t index) const;
  absl::StatusOr<TreeNode> SummarizePart(const ContextRecord& context, uint64_t first,
                                         uint64_t end) const;

  const ContextStores stores_;
  ChunkCache& cache_;
  RunColumnsCache& columns_;
  RunUses& uses_;
  const SummaryReader summaries_;
};

// Values as they are stored, by key.
using ChunkValues = std::vector<std::pair<StoredKey, std::string>>;
// The embeddings of chunks [first_chunk, end_chunk), which lie in `range`, and of no
// other; marks among them.
absl::StatusOr<ChunkValues> ReadRowValues(const Store& store, KeyScope scope, uint64_t range,
                                          uint64_t first_chunk, uint64_t end_chunk,
                                          const StoreSnapshot* snapshot = nullptr);

// Stands in the place of embeddings that were moved to the archive.
std::string EncodeMovedMark(uint64_t seed);
bool IsMovedMark(std::string_view value, uint64_t seed);
// Which runs of a range were moved, as it is stored.
std::string EncodePlacement(uint64_t archived, uint64_t seed);

}  // namespace mnemo
