#include "storage/context/tree_node.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "storage/base/bytes.h"
#include "storage/base/status_macros.h"
#include "storage/context/embedding.h"
#include "storage/context/sealed_value.h"

namespace mnemo {
namespace {

constexpr uint8_t kVersion = 1;

// The most frequent first, so that equal sets are equal bytes; at most
// kCounters. What the smallest that is dropped counted is taken from all: the
// bound of Misra and Gries.
std::vector<TreeNode::IdCount> Keep(const std::map<uint32_t, uint64_t>& counts) {
  std::vector<TreeNode::IdCount> all;
  all.reserve(counts.size());
  for (const auto& [id, count] : counts) all.push_back({id, count});
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.count > b.count; });
  if (all.size() <= TreeNode::kCounters) return all;
  const uint64_t dropped = all[TreeNode::kCounters].count;
  all.resize(TreeNode::kCounters);
  for (TreeNode::IdCount& entry : all) entry.count -= dropped;
  std::erase_if(all, [](const auto& entry) { return entry.count == 0; });
  return all;
}

void AppendFloats(std::string& out, const std::vector<float>& values) {
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

bool TakeFloats(ByteReader& reader, size_t count, std::vector<float>& out) {
  const ByteView bytes = reader.Take(count * sizeof(float));
  if (!reader.ok()) return false;
  out.resize(count);
  CopyInto(bytes, out.data());
  return std::all_of(out.begin(), out.end(), [](float value) { return std::isfinite(value); });
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
  std::map<uint32_t, uint64_t> ids;
  for (uint32_t i = 0; i < columns.count; ++i) {
    node.kinds |= uint32_t{1} << static_cast<uint8_t>(columns.kind(i));
    node.payloads |= columns.has_payload(i);
    node.largest_importance = std::max(node.largest_importance, columns.importance(i));
    node.first_time_unix_us = std::min(node.first_time_unix_us, columns.times_unix_us[i]);
    node.last_time_unix_us = std::max(node.last_time_unix_us, columns.times_unix_us[i]);
    ++ids[columns.id(i)];
  }
  node.top_ids = Keep(ids);
  node.sum.assign(dimension, 0);
  std::vector<float> values(dimension);
  const size_t row_bytes = RowBytes(type, dimension);
  for (uint32_t i = 0; i < columns.count; ++i) {
    DecodeRows(type, rows + i * row_bytes, 1, dimension, values.data());
    if (i == 0) node.min = node.max = values;
    for (uint32_t j = 0; j < dimension; ++j) {
      node.sum[j] += values[j];
      node.min[j] = std::min(node.min[j], values[j]);
      node.max[j] = std::max(node.max[j], values[j]);
    }
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
  for (size_t j = 0; j < node.sum.size(); ++j) {
    node.sum[j] += more.sum[j];
    node.min[j] = std::min(node.min[j], more.min[j]);
    node.max[j] = std::max(node.max[j], more.max[j]);
  }
  std::map<uint32_t, uint64_t> ids;
  for (const TreeNode::IdCount& entry : node.top_ids) ids[entry.id] += entry.count;
  for (const TreeNode::IdCount& entry : more.top_ids) ids[entry.id] += entry.count;
  node.top_ids = Keep(ids);
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
