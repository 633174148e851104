// Large parts to L3 and back through the daemon, beside O_DIRECT of the same bytes on the
// same file system, interleaved.
//
//   bench_disk FOLDER [ROUNDS [SETTING OF THE DAEMON ...]]
//
// 64 parts of 8 MiB that nothing compresses; exact parts lie at L3 as they were put, so all
// bytes count on both sides. Ours: the parts are in L1; the clock runs from Flush to its
// answer, when all is in files and synced. Then the daemon starts again and the page cache
// is dropped for its files, and one Get of all parts brings them into registered memory,
// each section checked by the daemon before it is copied; what arrived is compared when the
// clock has stopped. Direct: one file, 8 MiB at a time, in order, fdatasync at the end of
// writing. Both have memory that was used before: ours has flushed and read other parts.
//
// Prints one flat JSON object.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "mnemo/client.h"
#include "storage/base/descriptor.h"
#include "storage/base/errno_status.h"
#include "storage/base/status_macros.h"
#include "storage/base/units.h"
#include "tests/bench/common/bench_support.h"
#include "tests/bench/planes/rounds.h"
#include "tests/support/daemon/daemon_process.h"

namespace mnemo::bench {
namespace {

constexpr uint64_t kPart = 8 * kMiB;
constexpr size_t kParts = 64;
constexpr size_t kWarmParts = 16;
constexpr uint64_t kBytes = kPart * kParts;

double GigabytesPerSecond(double seconds) { return static_cast<double>(kBytes) / seconds / 1e9; }

// Pages of our own, touched.
class Memory {
 public:
  Memory() {
    void* const at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    MNEMO_CHECK(at != MAP_FAILED);
    bytes_ = {static_cast<uint8_t*>(at), kBytes};
  }
  ~Memory() { ::munmap(bytes_.data(), bytes_.size()); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::span<uint8_t> bytes() const { return bytes_; }

 private:
  std::span<uint8_t> bytes_;
};

void FillWithNoise(std::span<uint8_t> bytes) {
  std::mt19937_64 random(bytes.size());
  for (size_t i = 0; i < bytes.size(); i += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, 8);
  }
}

struct Times {
  double write = 0;
  double read = 0;
};

absl::StatusOr<Times> Direct(const std::string& path, const Memory& from, const Memory& to) {
  Times seconds;
  ::unlink(path.c_str());
  auto start = BenchClock::now();
  {
    const Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_DIRECT | O_CLOEXEC, 0600));
    for (uint64_t at = 0; at < kBytes; at += kPart) {
      if (::write(file.get(), from.bytes().data() + at, kPart) != ssize_t{kPart}) {
        return ErrnoStatus("write " + path, errno);
      }
    }
    if (::fdatasync(file.get()) != 0) return ErrnoStatus("sync " + path, errno);
    seconds.write = Seconds(BenchClock::now() - start);
  }
  start = BenchClock::now();
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  for (uint64_t at = 0; at < kBytes; at += kPart) {
    if (::read(file.get(), to.bytes().data() + at, kPart) != ssize_t{kPart}) {
      return ErrnoStatus("read " + path, errno);
    }
  }
  seconds.read = Seconds(BenchClock::now() - start);
  return seconds;
}

// What is synced leaves the page cache.
absl::Status DropPageCache(const std::string& folder) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const Descriptor file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    if (::fdatasync(file.get()) != 0) return ErrnoStatus("sync " + entry.path().string(), errno);
    const int error = ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
    if (error != 0) return ErrnoStatus("fadvise " + entry.path().string(), error);
  }
  return absl::OkStatus();
}

// A daemon over a folder of its own, and a client with registered memory.
class Ours {
 public:
  Ours(std::string folder, std::vector<std::string> settings)
      : folder_(std::move(folder)), settings_(std::move(settings)) {}

  absl::Status Start() {
    std::filesystem::create_directories(folder_);
    std::vector<std::string> all = {"--memory-total=4GiB", "--disk-total=32GiB",
                                    "--log-level=warning"};
    all.insert(all.end(), settings_.begin(), settings_.end());
    MNEMO_ASSIGN_OR_RETURN(daemon_, DaemonProcess::Start(folder_, all));
    MNEMO_ASSIGN_OR_RETURN(client_, client::Client::Connect({.target = daemon_->unix_socket(),
                                                             .stream_socket = daemon_->streams()}));
    MNEMO_ASSIGN_OR_RETURN(memory_, client_->AllocateShared(kBytes));
    client::Space space{.name = kSpace, .tokens_per_block = 256};
    space.groups = {{.name = "bytes", .kind = client::GroupKind::kOpaque, .layers = 1}};
    return client_->spaces().Open(space).status();
  }
  absl::Status Stop() {
    memory_.reset();
    client_.reset();
    const int code = daemon_->Stop();
    daemon_.reset();
    return code == 0 ? absl::OkStatus()
                     : absl::InternalError(fmt::format("the daemon ended with {}", code));
  }
  const std::string& folder() const { return folder_; }
  std::span<uint8_t> memory() const { return memory_->bytes(); }

  absl::Status Put(const std::string& name, size_t parts) {
    for (size_t i = 0; i < parts; ++i) {
      const std::string key = KeyOf(name, i);
      client::PutRequest request{.space = std::string(kSpace)};
      request.parts = {{.key = key, .data = memory().subspan(i * kPart, kPart)}};
      MNEMO_ASSIGN_OR_RETURN(const auto result, client_->blocks().Put(request, kFast));
      if (result.parts[0].outcome != client::PutOutcome::kStored) {
        return absl::InternalError("not stored: " + result.parts[0].status.ToString());
      }
    }
    return absl::OkStatus();
  }
  absl::Status Flush(uint64_t parts) {
    MNEMO_ASSIGN_OR_RETURN(const uint64_t written, client_->blocks().Flush(std::string(kSpace)));
    if (written == parts) return absl::OkStatus();
    return absl::InternalError(fmt::format("{} parts were written, not {}", written, parts));
  }
  // In one call, from L3.
  absl::Status Get(const std::string& name, size_t parts) {
    std::vector<std::string> names;
    for (size_t i = 0; i < parts; ++i) names.push_back(KeyOf(name, i));
    std::vector<std::string_view> keys(names.begin(), names.end());
    std::vector<client::Destination> to;
    for (size_t i = 0; i < parts; ++i) to.push_back({.memory = memory().subspan(i * kPart, kPart)});
    MNEMO_ASSIGN_OR_RETURN(
        const auto result,
        client_->blocks().Get({.space = std::string(kSpace), .keys = keys, .destinations = to},
                              kFast));
    for (const client::PartRead& part : result.parts) {
      MNEMO_RETURN_IF_ERROR(part.status);
      if (part.level != client::Level::kL3) return absl::InternalError("not read from L3");
    }
    return absl::OkStatus();
  }

 private:
  static constexpr const char* kSpace = "bench-disk";
  static inline const client::CallOptions kFast{.plane = client::PlaneChoice::kFast};
  static std::string KeyOf(const std::string& name, size_t i) {
    return fmt::format("{}-{}", name, i);
  }

  const std::string folder_;
  const std::vector<std::string> settings_;
  std::unique_ptr<DaemonProcess> daemon_;
  std::unique_ptr<client::Client> client_;
  std::unique_ptr<client::SharedMemory> memory_;
};

absl::StatusOr<Times> Daemon(const std::string& folder, const std::vector<std::string>& settings,
                             const Memory& from) {
  std::filesystem::remove_all(folder);
  Ours ours(folder, settings);
  Times seconds;
  MNEMO_RETURN_IF_ERROR(ours.Start());
  std::memcpy(ours.memory().data(), from.bytes().data(), kBytes);
  MNEMO_RETURN_IF_ERROR(ours.Put("warm", kWarmParts));
  MNEMO_RETURN_IF_ERROR(ours.Flush(kWarmParts));
  MNEMO_RETURN_IF_ERROR(ours.Put("cold", kParts));
  auto start = BenchClock::now();
  MNEMO_RETURN_IF_ERROR(ours.Flush(kParts));
  seconds.write = Seconds(BenchClock::now() - start);
  MNEMO_RETURN_IF_ERROR(ours.Stop());
  MNEMO_RETURN_IF_ERROR(DropPageCache(folder));

  MNEMO_RETURN_IF_ERROR(ours.Start());
  std::memset(ours.memory().data(), 0, kBytes);
  MNEMO_RETURN_IF_ERROR(ours.Get("warm", kWarmParts));
  start = BenchClock::now();
  MNEMO_RETURN_IF_ERROR(ours.Get("cold", kParts));
  seconds.read = Seconds(BenchClock::now() - start);
  if (std::memcmp(ours.memory().data(), from.bytes().data(), kBytes) != 0) {
    return absl::DataLossError("other bytes came back");
  }
  MNEMO_RETURN_IF_ERROR(ours.Stop());
  std::filesystem::remove_all(folder);
  return seconds;
}

absl::StatusOr<nlohmann::ordered_json> Run(const std::string& folder, int rounds,
                                           const std::vector<std::string>& settings) {
  const Memory from;
  const Memory to;
  FillWithNoise(from.bytes());
  std::vector<double> rates[4], write_shares, read_shares;
  for (int round = 0; round <= rounds; ++round) {
    Times direct, ours;
    for (int turn = 0; turn < 2; ++turn) {
      if ((round + turn) % 2 == 0) {
        MNEMO_ASSIGN_OR_RETURN(direct, Direct(folder + "/direct", from, to));
      } else {
        MNEMO_ASSIGN_OR_RETURN(ours, Daemon(folder + "/ours", settings, from));
      }
    }
    std::cerr << fmt::format("direct {:.2f} {:.2f}, ours {:.2f} {:.2f} GB/s written, read\n",
                             GigabytesPerSecond(direct.write), GigabytesPerSecond(direct.read),
                             GigabytesPerSecond(ours.write), GigabytesPerSecond(ours.read));
    if (round == 0) continue;
    const double all[] = {direct.write, direct.read, ours.write, ours.read};
    for (size_t i = 0; i < 4; ++i) rates[i].push_back(GigabytesPerSecond(all[i]));
    write_shares.push_back(direct.write / ours.write);
    read_shares.push_back(direct.read / ours.read);
  }
  nlohmann::ordered_json out = {{"disk_part_bytes", kPart}, {"disk_bytes", kBytes}};
  const char* const names[] = {"direct_write_gbps", "direct_read_gbps", "disk_write_gbps",
                               "disk_read_gbps"};
  for (size_t i = 0; i < 4; ++i) Report(out, names[i], rates[i]);
  Report(out, "disk_write_of_direct", write_shares);
  Report(out, "disk_read_of_direct", read_shares);
  return out;
}

}  // namespace
}  // namespace mnemo::bench

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: bench_disk FOLDER [ROUNDS [SETTING ...]]\n";
    return 2;
  }
  const auto out = mnemo::bench::Run(argv[1], argc > 2 ? std::max(1, std::stoi(argv[2])) : 5,
                                     {argv + std::min(argc, 3), argv + argc});
  if (!out.ok()) {
    std::cerr << "bench_disk: " << out.status().message() << '\n';
    return 1;
  }
  std::cout << out->dump(2) << '\n';
  return 0;
}
