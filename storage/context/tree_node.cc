#include "storage/context/tree_node.h"

#include <algorithm>
#include <bit>

#include "storage/base/bytes.h"
#include "storage/base/status_macros.h"
#include "storage/context/embedding.h"
#include "storage/context/sealed_value.h"

namespace mnemo {
namespace {

constexpr uint8_t kVersion = 1;

using IdCounts = std::vector<TreeNode::IdCount>;

// Each id once, in the order of ids.
void MergeEqual(IdCounts& counts) {
  std::sort(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  size_t last = 0;
  for (size_t i = 1; i < counts.size(); ++i) {
    if (counts[i].id == counts[last].id) {
      counts[last].count += counts[i].count;
    } else {
      counts[++last] = counts[i];
    }
  }
  if (!counts.empty()) counts.resize(last + 1);
}

// The most frequent first, so that equal sets are equal bytes; at most
// kCounters. What the smallest that is dropped counted is taken from all: the
// bound of Misra and Gries.
void Keep(IdCounts& counts) {
  MergeEqual(counts);
  std::sort(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
    return a.count != b.count ? a.count > b.count : a.id < b.id;
  });
  if (counts.size() <= TreeNode::kCounters) return;
  const uint64_t dropped = counts[TreeNode::kCounters].count;
  counts.resize(TreeNode::kCounters);
  for (TreeNode::IdCount& entry : counts) entry.count -= dropped;
  std::erase_if(counts, [](const auto& entry) { return entry.count == 0; });
}

void AppendFloats(std::string& out, const std::vector<float>& values) {
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

bool TakeFloats(ByteReader& reader, size_t count, std::vector<float>& out) {
  const ByteView bytes = reader.Take(count * sizeof(float));
  if (!reader.ok()) return false;
  out.resize(count);
  CopyInto(bytes, out.data());
  // Without a way out in the middle, since nearly always all are finite: of the
  // others the exponent is all ones, which carries into the highest bit.
  uint32_t carries = 0;
  for (const float value : out) {
    carries |= (std::bit_cast<uint32_t>(value) & 0x7f800000) + 0x00800000;
  }
  return (carries >> 31) == 0;
}

absl::Status TakeTopIds(ByteReader& reader, TreeNode& node) {
  const auto size = reader.Little<uint8_t>();
  if (size > TreeNode::kCounters) return absl::DataLossError("tree node: too many ids");
  for (uint8_t i = 0; i < size; ++i) {
    const auto id = reader.Little<uint32_t>();
    node.top_ids.push_back({id, reader.Little<uint64_t>()});
  }
  return absl::OkStatus();
}

}  // namespace

TreeNode SummarizeTokens(const ChunkColumns& columns, ElementType type, uint32_t dimension,
                         const uint8_t* rows) {
  TreeNode node;
  if (columns.count == 0) return node;
  node.count = columns.count;
  node.top_ids.reserve(columns.count);
  for (uint32_t i = 0; i < columns.count; ++i) {
    node.kinds |= uint32_t{1} << static_cast<uint8_t>(columns.kind(i));
    node.payloads |= columns.has_payload(i);
    node.largest_importance = std::max(node.largest_importance, columns.importance(i));
    node.first_time_unix_us = std::min(node.first_time_unix_us, columns.times_unix_us[i]);
    node.last_time_unix_us = std::max(node.last_time_unix_us, columns.times_unix_us[i]);
    node.top_ids.push_back({columns.id(i), 1});
  }
  Keep(node.top_ids);
  node.sum.assign(dimension, 0);
  std::vector<float> values(dimension);
  const size_t row_bytes = RowBytes(type, dimension);
  for (uint32_t i = 0; i < columns.count; ++i) {
    DecodeRows(type, rows + i * row_bytes, 1, dimension, values.data());
    if (i == 0) node.min = node.max = values;
    Accumulate(dimension, values.data(), values.data(), values.data(), node.sum.data(),
               node.min.data(), node.max.data());
    node.sum_square_norms += Dot(values.data(), values.data(), dimension);
  }
  return node;
}

void Combine(TreeNode& node, const TreeNode& more) {
  if (more.count == 0) return;
  if (node.count == 0) {
    node = more;
    return;
  }
  MNEMO_CHECK(node.sum.size() == more.sum.size());
  node.count += more.count;
  node.kinds |= more.kinds;
  node.payloads |= more.payloads;
  node.largest_importance = std::max(node.largest_importance, more.largest_importance);
  node.sum_square_norms += more.sum_square_norms;
  node.first_time_unix_us = std::min(node.first_time_unix_us, more.first_time_unix_us);
  node.last_time_unix_us = std::max(node.last_time_unix_us, more.last_time_unix_us);
  Accumulate(node.sum.size(), more.sum.data(), more.min.data(), more.max.data(), node.sum.data(),
             node.min.data(), node.max.data());
  node.top_ids.insert(node.top_ids.end(), more.top_ids.begin(), more.top_ids.end());
  Keep(node.top_ids);
}

std::string EncodeTreeNode(const TreeNode& node, uint64_t seed) {
  std::string out;
  out.push_back(static_cast<char>(kVersion));
  out.push_back(static_cast<char>(node.payloads ? 1 : 0));
  AppendLittle<uint16_t>(out, static_cast<uint16_t>(node.sum.size()));
  AppendLittle<uint32_t>(out, node.kinds);
  AppendLittle<uint64_t>(out, node.count);
  AppendLittle<double>(out, node.sum_square_norms);
  AppendLittle<int64_t>(out, node.first_time_unix_us);
  AppendLittle<int64_t>(out, node.last_time_unix_us);
  AppendLittle<float>(out, node.largest_importance);
  out.push_back(static_cast<char>(node.top_ids.size()));
  for (const TreeNode::IdCount& entry : node.top_ids) {
    AppendLittle<uint32_t>(out, entry.id);
    AppendLittle<uint64_t>(out, entry.count);
  }
  AppendFloats(out, node.sum);
  AppendFloats(out, node.min);
  AppendFloats(out, node.max);
  SealValue(out, seed);
  return out;
}

absl::StatusOr<TreeNode> DecodeTreeNode(ByteView value, uint64_t seed) {
  MNEMO_ASSIGN_OR_RETURN(ByteReader reader, OpenValue(value, seed, kVersion, "tree node"));
  TreeNode node;
  const auto flags = reader.Little<uint8_t>();
  const auto dimension = reader.Little<uint16_t>();
  node.payloads = (flags & 1) != 0;
  node.kinds = reader.Little<uint32_t>();
  node.count = reader.Little<uint64_t>();
  node.sum_square_norms = reader.Little<double>();
  node.first_time_unix_us = reader.Little<int64_t>();
  node.last_time_unix_us = reader.Little<int64_t>();
  node.largest_importance = reader.Little<float>();
  MNEMO_RETURN_IF_ERROR(TakeTopIds(reader, node));
  const bool finite = TakeFloats(reader, dimension, node.sum) &&
                      TakeFloats(reader, dimension, node.min) &&
                      TakeFloats(reader, dimension, node.max);
  if (!finite || !reader.ok() || reader.remaining() != 0 || flags > 1 || node.count == 0 ||
      node.count > kMaxPosition || dimension == 0 || dimension > kMaxContextDimension) {
    return absl::DataLossError("tree node: a field out of range");
  }
  return node;
}

}  // namespace mnemo
