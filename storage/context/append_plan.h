// The writes of one append: what of a batch becomes whole chunks, what stays a
// fragment, and which nodes of the segment tree are complete by it.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "storage/base/bytes.h"
#include "storage/context/chunk.h"
#include "storage/context/context_types.h"
#include "storage/context/tree_node.h"
#include "storage/tier/store.h"

namespace mnemo {

// `tokens`, which are valid for `spec`, as columns, marked where a payload
// covers them; `now` for those without a time.
ChunkColumns ToColumns(const TokenColumns& tokens, int64_t now_unix_us);
// Their embeddings as stored rows.
std::string ToStoredRows(const ContextSpec& spec, const TokenColumns& tokens);
// A digest of all that a batch says.
uint64_t DigestOf(const TokenColumns& tokens);

// Of one append; not thread-safe. Nobody else appends to the context meanwhile.
//
// A node is written once, when its last chunk is complete, from its four
// children; so an append of n tokens writes n/128 x 4/3 nodes, and reads the
// three older children of at most one node a level.
class AppendPlan {
 public:
  // Borrows all.
  AppendPlan(const ContextRecord& context, const Store& store, StoreBatch& batch)
      : context_(context), store_(store), batch_(batch) {}

  // Writes `columns` and their `rows` to the batch. They begin at the context's
  // next position. Errors: kDataLoss (stored fragments or nodes are damaged).
  absl::Status AddTokens(const ChunkColumns& columns, ByteView rows);

  // The shards that tokens were written to.
  const std::set<uint16_t>& shards() const { return shards_; }

 private:
  absl::Status Complete(const ChunkColumns& columns, ByteView rows);
  void PutColumns(const ChunkColumns& columns);
  // As one value.
  void PutRows(uint64_t first_position, uint32_t count, ByteView rows);
  // A complete one: its rows in groups.
  void PutChunk(const ChunkColumns& columns, ByteView rows);
  absl::Status TakeFragments(uint64_t chunk, ChunkColumns& columns, std::string& rows);
  absl::Status AddNode(uint8_t level, uint64_t index, TreeNode node);
  absl::StatusOr<TreeNode> Child(uint8_t level, uint64_t index) const;

  const ContextRecord& context_;
  const Store& store_;
  StoreBatch& batch_;
  std::set<uint16_t> shards_;
  std::map<std::pair<uint8_t, uint64_t>, TreeNode> made_;  // level, index
};

}  // namespace mnemo
