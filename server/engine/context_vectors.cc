#include "server/engine/context_vectors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/context/embedding.h"

namespace mnemo {
namespace {

// Read with the first row of a pass, as the others follow: 16 chunks, a MiB of
// fp16 at dimension 256.
constexpr RowId kAheadRows = 2047;

absl::Status NotThere(const ContextRecord& context, uint64_t position) {
  return absl::DataLossError(
      fmt::format("context '{}': no token at position {}", context.spec.name, position));
}

// The piece that has `position`, or null.
const ChunkCache::RowsPtr* Find(const std::vector<ChunkCache::RowsPtr>& pieces, uint64_t position) {
  const auto behind = std::upper_bound(
      pieces.begin(), pieces.end(), position,
      [](uint64_t at, const ChunkCache::RowsPtr& piece) { return at < piece->end_position(); });
  const bool found = behind != pieces.end() && (*behind)->first_position() <= position;
  return found ? &*behind : nullptr;
}

// The row as it is searched: that of the piece, or decoded into `scratch`.
const uint8_t* RowAt(const ContextSpec& spec, const ChunkRows& piece, uint64_t position,
                     ReadScratch& scratch) {
  const uint8_t* const row = piece.row(position - piece.first_position());
  if (piece.type() == spec.searched()) return row;
  uint8_t* const decoded = scratch.Allocate(RowBytes(spec.searched(), spec.dimension));
  ConvertRows(piece.type(), row, 1, spec.dimension, spec.searched(), decoded);
  return decoded;
}

}  // namespace

absl::Status SearchVectors::Read(std::span<const RowId> rows, ReadScratch& scratch,
                                 std::span<const uint8_t*> out) const {
  std::vector<ChunkCache::RowsPtr> pieces;
  for (size_t i = 0; i < rows.size(); ++i) {
    const uint64_t position = first_position_ + rows[i];
    const ChunkCache::RowsPtr* piece = Find(pieces, position);
    if (piece == nullptr) {
      MNEMO_ASSIGN_OR_RETURN(pieces, reader_.ReadRows(context_, position));
      for (const ChunkCache::RowsPtr& read : pieces) scratch.Hold(read);
      piece = Find(pieces, position);
    }
    if (piece == nullptr) return NotThere(context_, position);
    out[i] = RowAt(context_.spec, **piece, position, scratch);
  }
  return absl::OkStatus();
}

const uint8_t* BuildVectors::InRam(RowId row) const {
  const auto segments = snapshot_->segments();
  const auto behind =
      std::upper_bound(segments.begin(), segments.end(), row,
                       [](RowId at, const PlacedSegment& placed) { return at < placed.first_row; });
  if (behind == segments.begin()) return nullptr;
  const PlacedSegment& placed = *(behind - 1);
  if (placed.segment->kind() != SegmentKind::kFlat) return nullptr;
  const RowId within = row - placed.first_row;
  if (within >= placed.segment->rows()) return nullptr;
  return static_cast<const GrowingSegment&>(*placed.segment).Row(within);
}

absl::Status BuildVectors::ReadChunks(RowId first, RowId last) const {
  chunks_.clear();
  Pieces read;
  const absl::Status status =
      reader_.ScanChunks(context_, first_position_ + first, first_position_ + last + 1,
                         /*with_rows=*/true, [&read](ChunkPiece& piece) {
                           read.push_back(std::move(piece.rows));
                           return true;
                         });
  chunks_ = std::move(read);
  return status;
}

const uint8_t* BuildVectors::InChunks(RowId row, ReadScratch& scratch) const {
  const uint64_t position = first_position_ + row;
  const ChunkCache::RowsPtr* const piece = Find(chunks_, position);
  if (piece == nullptr) return nullptr;
  scratch.Hold(*piece);
  return RowAt(context_.spec, **piece, position, scratch);
}

absl::StatusOr<const uint8_t*> BuildVectors::Kept(RowId row) const {
  const auto found = kept_.find(row);
  if (found != kept_.end()) return reinterpret_cast<const uint8_t*>(found->second.data());
  ReadScratch scratch;
  const uint8_t* bytes = InChunks(row, scratch);
  if (bytes == nullptr) {
    MNEMO_RETURN_IF_ERROR(ReadChunks(row, row));
    bytes = InChunks(row, scratch);
  }
  if (bytes == nullptr) return NotThere(context_, first_position_ + row);
  std::string& kept = kept_[row];
  kept.assign(reinterpret_cast<const char*>(bytes), ShapeOf(context_.spec).row_bytes());
  return reinterpret_cast<const uint8_t*>(kept.data());
}

absl::Status BuildVectors::Read(std::span<const RowId> rows, ReadScratch& scratch,
                                std::span<const uint8_t*> out) const {
  const size_t row_bytes = ShapeOf(context_.spec).row_bytes();
  // Neighbours, as passes over everything read them, or single rows.
  const bool dense = std::is_sorted(rows.begin(), rows.end()) && !rows.empty() &&
                     rows.back() - rows.front() < 2 * rows.size();
  MutexLock lock(mutex_);
  if (kept_.size() * row_bytes > kKeptBytes) kept_.clear();
  for (size_t i = 0; i < rows.size(); ++i) {
    out[i] = InRam(rows[i]);
    if (out[i] != nullptr) continue;
    if (!dense) {
      MNEMO_ASSIGN_OR_RETURN(const uint8_t* const kept, Kept(rows[i]));
      // Copied: what is kept may move.
      uint8_t* const copy = scratch.Allocate(row_bytes);
      std::memcpy(copy, kept, row_bytes);
      out[i] = copy;
      continue;
    }
    out[i] = InChunks(rows[i], scratch);
    if (out[i] == nullptr) {
      MNEMO_RETURN_IF_ERROR(ReadChunks(rows[i], std::max(rows.back(), rows[i] + kAheadRows)));
      out[i] = InChunks(rows[i], scratch);
    }
    if (out[i] == nullptr) return NotThere(context_, first_position_ + rows[i]);
  }
  return absl::OkStatus();
}

}  // namespace mnemo
