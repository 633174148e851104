#include "server/config/budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <span>
#include <vector>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

struct Share {
  std::string_view key;
  uint64_t* size;
  uint64_t weight;
  uint64_t minimum;
};

constexpr uint64_t RoundDownToMiB(uint64_t bytes) { return bytes / kMiB * kMiB; }

// Fills the sizes of `shares` that are kAutoSize from what the others leave of
// `total`; `spare` is the weight of what stays free.
absl::Status Split(std::string_view total_key, uint64_t total, uint64_t spare,
                   std::span<const Share> shares) {
  uint64_t taken = 0;
  std::string named;
  std::vector<const Share*> open;
  for (const Share& share : shares) {
    if (*share.size == kAutoSize) {
      open.push_back(&share);
      continue;
    }
    taken += *share.size;
    named +=
        fmt::format("{}{} {}", named.empty() ? "" : " + ", share.key, FormatByteSize(*share.size));
  }
  if (taken > total) {
    return absl::InvalidArgumentError(
        fmt::format("{} is more than {} {}", named, total_key, FormatByteSize(total)));
  }
  uint64_t least = taken;
  for (const Share* share : open) least += share->minimum;
  if (least > total) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: {} is too small; its parts need at least {}{}", total_key, FormatByteSize(total),
        FormatByteSize(least), named.empty() ? "" : fmt::format(", {} of it given", named)));
  }
  // Those whose share is under their minimum take that, and leave less for the
  // others, until nobody is under it.
  const auto share_of = [&](const Share& share) {
    uint64_t weights = spare;
    for (const Share* other : open) weights += other->weight;
    return (total - taken) / kMiB * share.weight / weights * kMiB;
  };
  for (auto it = open.begin(); it != open.end();) {
    const Share& share = **it;
    if (share_of(share) >= share.minimum) {
      ++it;
      continue;
    }
    *share.size = share.minimum;
    taken += share.minimum;
    open.erase(it);
    it = open.begin();
  }
  for (const Share* share : open) *share->size = share_of(*share);
  return absl::OkStatus();
}

// The number after `label` in /proc/meminfo, which is in KiB.
absl::StatusOr<uint64_t> ReadMemTotal(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  std::string label;
  uint64_t kib = 0;
  std::string unit;
  while (file >> label >> kib) {
    std::getline(file, unit);
    if (label == "MemTotal:") return kib * kKiB;
  }
  return absl::UnavailableError("/proc/meminfo has no MemTotal; set memory.total");
}

// "max" or a number; 0 if there is no limit or no such file.
uint64_t ReadLimit(const std::string& path) {
  std::ifstream file(path);
  uint64_t limit = 0;
  if (!(file >> limit)) return 0;
  return limit;
}

// The smallest limit of the cgroup of this process and of those above it.
// Containers often see their own cgroup as the root, so "/" is looked at too.
uint64_t SmallestCgroupLimit(const std::string& root, uint64_t largest) {
  uint64_t smallest = largest;
  const auto consider = [&](const std::string& mount, const std::string& group,
                            const std::string& name) {
    std::string path = group;
    while (true) {
      const uint64_t limit = ReadLimit(root + mount + path + "/" + name);
      if (limit > 0) smallest = std::min(smallest, limit);
      const size_t slash = path.rfind('/');
      if (slash == std::string::npos || path.empty()) return;
      path.resize(slash);
    }
  };
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    // "0::/path" in version 2, "7:memory:/path" in version 1.
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    if (controllers.empty()) consider("/sys/fs/cgroup", group, "memory.max");
    if (controllers == "memory") {
      consider("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
    }
  }
  return smallest;
}

uint64_t UsedBelow(const std::filesystem::path& folder) {
  uint64_t used = 0;
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(
      folder, std::filesystem::directory_options::skip_permission_denied, error);
  for (; !error && entry != std::filesystem::recursive_directory_iterator();
       entry.increment(error)) {
    std::error_code ignored;
    const uint64_t size = entry->is_regular_file(ignored) ? entry->file_size(ignored) : 0;
    if (!ignored) used += size;
  }
  return used;
}

}  // namespace

absl::Status DeriveSizes(const HostFacts& facts, Config& config) {
  Config::Memory& memory = config.memory;
  if (memory.total == kAutoSize) {
    memory.total = std::max(RoundDownToMiB(facts.memory_bytes / 2), 160 * kMiB);
  }
  const Share memory_shares[] = {{"memory.l1", &memory.l1, 42, 64 * kMiB},
                                 {"memory.l2", &memory.l2, 14, 0},
                                 {"memory.contexts", &memory.contexts, 10, 16 * kMiB},
                                 {"memory.disk_cache", &memory.disk_cache, 12, 16 * kMiB},
                                 {"memory.inflight", &memory.inflight, 8, 16 * kMiB},
                                 {"memory.directory", &memory.directory, 6, 4 * kMiB},
                                 {"memory.connections", &memory.connections, 4, 16 * kMiB}};
  MNEMO_RETURN_IF_ERROR(Split("memory.total", memory.total, 4, memory_shares));

  Config::Disk& disk = config.disk;
  if (disk.total == kAutoSize) {
    disk.total = std::max(RoundDownToMiB((facts.disk_free_bytes + facts.disk_used_bytes) / 10 * 8),
                          64 * kMiB);
  }
  const Share disk_shares[] = {{"disk.l3", &disk.l3, 50, 64 * kMiB},
                               {"disk.contexts", &disk.contexts, 10, 0},
                               {"disk.archive", &disk.archive, 40, 0}};
  MNEMO_RETURN_IF_ERROR(Split("disk.total", disk.total, 0, disk_shares));
  // So little does not have to fit.
  disk.contexts = std::max(disk.contexts, kMiB);
  return absl::OkStatus();
}

absl::StatusOr<HostFacts> ProbeHost(const std::string& data_dir, const std::string& root) {
  HostFacts facts;
  MNEMO_ASSIGN_OR_RETURN(const uint64_t ram, ReadMemTotal(root));
  facts.memory_bytes = SmallestCgroupLimit(root, ram);

  std::error_code error;
  std::filesystem::path folder = std::filesystem::absolute(data_dir, error);
  while (!error && !std::filesystem::exists(folder, error) && folder.has_relative_path()) {
    error.clear();
    folder = folder.parent_path();
  }
  const std::filesystem::space_info space = std::filesystem::space(folder, error);
  if (error) {
    return absl::UnavailableError(fmt::format("data_dir: the free space at {} is not known: {}",
                                              folder.string(), error.message()));
  }
  facts.disk_free_bytes = space.available;
  facts.disk_used_bytes = UsedBelow(data_dir);
  return facts;
}

}  // namespace mnemo
