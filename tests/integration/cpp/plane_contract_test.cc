// What every plane and form of memory promises alike, through the C++ client: each
// operation, deadlines, cancellation, a daemon that dies, damage on disk.
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "storage/base/descriptor.h"
#include "tests/integration/cpp/daemon_test.h"
#include "tests/support/certificates.h"

namespace mnemo::client {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr size_t kMiB = 1 << 20;
constexpr size_t kBlock = 300'001;

struct PlaneCase {
  const char* name;
  Plane plane;
  enum { kOwn, kMemfd, kFile } memory;
  bool tls = false;
};

PlaneChoice ChoiceOf(Plane plane) {
  return plane == Plane::kInline ? PlaneChoice::kInline
         : plane == Plane::kFast ? PlaneChoice::kFast
                                 : PlaneChoice::kBulk;
}

uint64_t HexBehindColon(const std::string& text) {
  return std::stoull(text.substr(text.rfind(':') + 1), nullptr, 16);
}

// Bytes that lie unread at the other ends of this process's sockets, of UNIX or of TCP.
uint64_t Unread(bool of_unix) {
  uint64_t bytes = 0;
  std::set<uint64_t> ports;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int socket = std::stoi(entry.path().filename());
    sockaddr_storage own{};
    socklen_t size = sizeof(own);
    if (::getsockname(socket, reinterpret_cast<sockaddr*>(&own), &size) != 0) continue;
    int sent = 0;
    if (own.ss_family != AF_UNIX) {
      // Where it is, and how wide, is the same in IPv6.
      ports.insert(ntohs(reinterpret_cast<const sockaddr_in*>(&own)->sin_port));
    } else if (of_unix && ::ioctl(socket, SIOCOUTQ, &sent) == 0) {
      bytes += static_cast<uint64_t>(sent);
    }
  }
  if (of_unix) return bytes;
  for (const char* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream table(path);
    std::string line;
    std::getline(table, line);
    while (std::getline(table, line)) {
      std::istringstream words(line);
      std::string number, here, there, state, queues;  // "sent:unread"
      words >> number >> here >> there >> state >> queues;
      if (state == "01" && ports.contains(HexBehindColon(there))) bytes += HexBehindColon(queues);
    }
  }
  return bytes;
}

class PlaneContractTest : public DaemonTest, public ::testing::WithParamInterface<PlaneCase> {
 protected:
  static constexpr size_t kMemory = 4 * kMiB;

  PlaneContractTest() : DaemonTest("256MiB", {.plane = ChoiceOf(GetParam().plane)}) {}
  void SetUp() override {
    const TestCertificate node = authority_.IssueServer();
    WriteText(folder_ / "node.pem", node.certificate);
    WriteText(folder_ / "node.key", node.key);
    ASSERT_NO_FATAL_FAILURE(Begin());
  }
  void TearDown() override {
    shared_.reset();
    if (mapped_ != MAP_FAILED) ::munmap(mapped_, kMemory);
  }

  // A daemon and a client of it, over what lies in the folder.
  void Begin() {
    std::vector<std::string> settings = {"--streams-listen=127.0.0.1:0"};
    ClientOptions options;
    if (GetParam().tls) {
      settings.push_back("--set=tls.certificate=" + (folder_ / "node.pem"));
      settings.push_back("--set=tls.key=" + (folder_ / "node.key"));
      settings.push_back("--set=tls.clients=off");
      options.tls = TlsOptions{.ca = authority_.certificate()};
    }
    ASSERT_NO_FATAL_FAILURE(StartDaemon(settings));
    options.target = daemon_->tcp();
    shared_.reset();
    ASSERT_NO_FATAL_FAILURE(Connect(options));
    ASSERT_NO_FATAL_FAILURE(MakeMemory());
  }
  void MakeMemory() {
    if (GetParam().memory == PlaneCase::kOwn) {
      own_.resize(kMemory);
      memory_ = own_;
    } else if (GetParam().memory == PlaneCase::kMemfd) {
      ASSERT_OK_AND_ASSIGN(shared_, client_->AllocateShared(kMemory));
      memory_ = shared_->bytes();
    } else {
      if (mapped_ == MAP_FAILED) {
        const std::string path = "/dev/shm/mnemo-contract-" + std::to_string(::getpid());
        file_ = Descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        ASSERT_TRUE(file_.valid());
        ::unlink(path.c_str());
        ASSERT_EQ(::posix_fallocate(file_.get(), 0, kMemory), 0);
        mapped_ = ::mmap(nullptr, kMemory, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
        ASSERT_NE(mapped_, MAP_FAILED);
      }
      memory_ = MutableBytes(static_cast<uint8_t*>(mapped_), kMemory);
      ASSERT_OK_AND_ASSIGN(shared_, client_->Share(file_.get(), memory_));
    }
    uint32_t state = 1;
    for (uint8_t& byte : Out()) {
      state = state * 1664525u + 1013904223u;
      byte = static_cast<uint8_t>(state >> 24);
    }
  }
  // Puts come from here, and gets go there.
  MutableBytes Out(size_t size = 2 * kBlock) const { return memory_.first(size); }
  MutableBytes In(size_t size = kBlock) const { return memory_.subspan(2 * kMiB, size); }

  // Starts a call of a daemon that is frozen, and returns once its socket has some of it.
  template <typename Call>
  static std::future<absl::Status> BringToSocket(Call call) {
    const bool of_unix = GetParam().plane == Plane::kFast;
    const uint64_t before = Unread(of_unix);
    std::future<absl::Status> end = std::async(std::launch::async, call);
    while (Unread(of_unix) <= before &&
           end.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
      std::this_thread::yield();
    }
    return end;
  }
  bool IsOut(size_t offset = 0) const {
    return std::equal(In().begin(), In().end(), Out().begin() + static_cast<ptrdiff_t>(offset));
  }
  absl::Status StatusOfGet(const CallOptions& options = {}) {
    CallOptions call = options;
    call.plane = usual_.plane;
    const auto got = Get("a", In(), call);
    if (!got.ok()) return got.status();
    EXPECT_EQ(got->plane, GetParam().plane);
    return got->parts[0].status;
  }

  const TestAuthority authority_;
  std::vector<uint8_t> own_;
  std::unique_ptr<SharedMemory> shared_;
  Descriptor file_;
  void* mapped_ = MAP_FAILED;
  MutableBytes memory_;
};

TEST_P(PlaneContractTest, EveryOperationSaysTheSame) {
  Blocks blocks = client_->blocks();
  ASSERT_OK_AND_ASSIGN(
      const PutResult put,
      blocks.Put(
          {.space = "opaque",
           .parts = {{.key = "a", .data = Out(kBlock)},
                     {.key = "b", .data = Out().subspan(kBlock), .depth = 1, .parent = "a"}}},
          usual_));
  EXPECT_EQ(put.plane, GetParam().plane);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(put.parts[i].outcome, PutOutcome::kStored);
    EXPECT_EQ(put.parts[i].digest, DigestOf(Out().subspan(i * kBlock, kBlock)));
  }
  // Other bytes under the same key: what is there stays.
  ASSERT_OK_AND_ASSIGN(const PutResult conflict, Put("a", Out().subspan(1, kBlock)));
  EXPECT_EQ(conflict.parts[0].outcome, PutOutcome::kConflict);
  EXPECT_EQ(conflict.parts[0].digest, put.parts[0].digest);

  const std::vector<std::string_view> keys = {"a", "b", "c"};
  ASSERT_OK_AND_ASSIGN(
      const OfferResult offer,
      blocks.Offer({.space = "opaque",
                    .parts = {{.key = "a", .size = kBlock}, {.key = "c", .size = kBlock}}},
                   usual_));
  EXPECT_EQ(offer.verdicts[0].verdict, Verdict::kPresent);
  EXPECT_EQ(offer.verdicts[1].verdict, Verdict::kWant);
  ASSERT_OK_AND_ASSIGN(const MatchResult match,
                       blocks.Match({.space = "opaque", .keys = keys, .lease_ms = 60'000}, usual_));
  EXPECT_EQ(match.blocks, 2u);
  EXPECT_EQ(match.fetch_bytes, 2 * kBlock);
  EXPECT_EQ(match.pending, (std::vector<uint32_t>{2}));
  ASSERT_NE(match.lease, 0u);
  ASSERT_OK_AND_ASSIGN(const uint32_t found,
                       blocks.Touch({.space = "opaque", .keys = keys}, usual_));
  EXPECT_EQ(found, 2u);
  ASSERT_OK_AND_ASSIGN(const PrefetchResult prefetch,
                       blocks.Prefetch({.space = "opaque", .keys = keys}, usual_));
  EXPECT_EQ(prefetch.in_ram, 2u);
  EXPECT_EQ(prefetch.absent, 1u);

  // A read that fulfils a lease ends it.
  EXPECT_OK(blocks.Renew(match.lease, 60'000));
  const std::vector<Destination> to = {{.memory = In()}, {.memory = In().first(0)}};
  ASSERT_OK_AND_ASSIGN(const GetResult got, blocks.Get({.space = "opaque",
                                                        .keys = std::span(keys).first(1),
                                                        .lease = match.lease,
                                                        .destinations = std::span(to).first(1),
                                                        .verify = true},
                                                       usual_));
  EXPECT_EQ(got.plane, GetParam().plane);
  EXPECT_OK(got.parts[0].status);
  EXPECT_EQ(got.parts[0].bytes, kBlock);
  EXPECT_EQ(got.parts[0].digest, put.parts[0].digest);
  EXPECT_EQ(got.parts[0].level, Level::kL1);
  EXPECT_TRUE(IsOut());
  EXPECT_THAT(blocks.Renew(match.lease, 1000).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
  ASSERT_OK_AND_ASSIGN(const GetResult second, Get("b", In()));
  EXPECT_OK(second.parts[0].status);
  EXPECT_EQ(second.parts[0].depth, 1u);
  EXPECT_TRUE(IsOut(kBlock));

  // A part for which there is no room comes not at all.
  std::fill(In().begin(), In().end(), uint8_t{0});
  ASSERT_OK_AND_ASSIGN(const GetResult small, Get("a", In(kBlock - 1)));
  EXPECT_FALSE(small.parts[0].status.ok());
  EXPECT_EQ(In()[kBlock - 1], 0);

  ASSERT_OK_AND_ASSIGN(const PinResult pin, blocks.Pin({.space = "opaque", .keys = keys}));
  EXPECT_EQ(pin.parts_pinned, 2u);
  EXPECT_THAT(pin.missing, ElementsAre(2));
  ASSERT_OK_AND_ASSIGN(const BlockPage page, blocks.List({.space = "opaque"}));
  EXPECT_EQ(page.parts.size(), 2u);
  ASSERT_OK_AND_ASSIGN(const uint64_t gone, blocks.Delete({.space = "opaque", .keys = keys}));
  EXPECT_EQ(gone, 2u);
  EXPECT_THAT(StatusOfGet(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
}

TEST_P(PlaneContractTest, DeadlinesAndCancellationHold) {
  ASSERT_OK(Put("a", Out(kBlock)));
  EXPECT_OK(StatusOfGet());
  daemon_->Freeze();
  EXPECT_THAT(StatusOfGet({.timeout = Millis(50)}),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("")));
  CancelSource cancel;
  auto cancelled = std::async(std::launch::async, [&] { return StatusOfGet({.cancel = &cancel}); });
  cancel.Cancel();
  EXPECT_THAT(cancelled.get(), StatusIs(absl::StatusCode::kCancelled, HasSubstr("")));
  daemon_->Thaw();
  // Whatever became of its stream, the client finds another.
  std::fill(In().begin(), In().end(), uint8_t{0});
  absl::Status status = StatusOfGet();
  while (absl::IsUnavailable(status)) status = StatusOfGet();
  EXPECT_OK(status);
  EXPECT_TRUE(IsOut());
}

// More than a stream takes at once.
TEST_P(PlaneContractTest, EightyCallsAtOnceAllEnd) {
  constexpr size_t kSmall = 4096;
  ASSERT_OK(Put("a", Out(kSmall)));
  EXPECT_OK(Get("a", In(kSmall)).status());
  daemon_->Freeze();
  std::vector<std::future<absl::StatusOr<GetResult>>> calls;
  for (size_t i = 0; i < 80; ++i) {
    calls.push_back(std::async(std::launch::async, [this, i] {
      return Get("a", memory_.subspan(2 * kMiB + i * kSmall, kSmall));
    }));
  }
  daemon_->Thaw();
  for (size_t i = 0; i < calls.size(); ++i) {
    const absl::StatusOr<GetResult> got = calls[i].get();
    ASSERT_OK(got);
    EXPECT_EQ(got->plane, GetParam().plane);
    EXPECT_OK(got->parts[0].status);
    const MutableBytes into = memory_.subspan(2 * kMiB + i * kSmall, kSmall);
    EXPECT_TRUE(std::equal(into.begin(), into.end(), Out().begin()));
  }
}

TEST_P(PlaneContractTest, ADaemonThatDiesEndsItsCallsAndKeepsWhatItAcknowledged) {
  const PutRequest request{.space = "opaque",
                           .parts = {{.key = "a", .data = Out(kBlock)}},
                           .durability = Durability::kSync};
  ASSERT_OK(client_->blocks().Put(request, usual_));
  // It dies with calls in its hands.
  daemon_->Freeze();
  auto call = BringToSocket([&] { return StatusOfGet({.timeout = Millis(60'000)}); });
  auto put = BringToSocket([&] {
    return Put("b", Out().subspan(kBlock), {.timeout = Millis(60'000), .plane = usual_.plane})
        .status();
  });
  EXPECT_NE(call.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_NE(put.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  daemon_->Kill();
  // Not by their deadline.
  EXPECT_THAT(call.get(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("")));
  EXPECT_THAT(put.get(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("")));
  daemon_.reset();
  ASSERT_NO_FATAL_FAILURE(Begin());
  EXPECT_OK(StatusOfGet());
  EXPECT_TRUE(IsOut());
}

// Inverts a byte of every copy of `bytes` below `folder`; answers how many there were.
int Damage(const std::string& folder, std::string_view bytes) {
  int count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    std::string all = text.str();
    bool found = false;
    for (size_t at = all.find(bytes); at != std::string::npos; at = all.find(bytes, at + 1)) {
      all[at] = static_cast<char>(~all[at]);
      found = true;
    }
    if (!found) continue;
    ++count;
    std::ofstream(entry.path(), std::ios::binary | std::ios::trunc) << all;
  }
  return count;
}

TEST_P(PlaneContractTest, DamageOnDiskIsAMiss) {
  ASSERT_OK(client_->blocks().Put({.space = "opaque",
                                   .parts = {{.key = "a", .data = Out(kBlock)}},
                                   .durability = Durability::kSync},
                                  usual_));
  const std::string middle(reinterpret_cast<const char*>(Out().data()) + kBlock / 2, 64);
  ASSERT_EQ(daemon_->Stop(), 0);
  ASSERT_GT(Damage(folder_ / "data", middle), 0);
  ASSERT_NO_FATAL_FAILURE(Begin());
  std::fill(In().begin(), In().end(), uint8_t{0});
  EXPECT_THAT(StatusOfGet(), AnyOf(StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")),
                                   StatusIs(absl::StatusCode::kNotFound, HasSubstr(""))));
  EXPECT_THAT(StatusOfGet(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
  // Its place is free for the right bytes.
  ASSERT_OK_AND_ASSIGN(const PutResult again, Put("a", Out(kBlock)));
  EXPECT_EQ(again.parts[0].outcome, PutOutcome::kStored);
  EXPECT_OK(StatusOfGet());
  EXPECT_TRUE(IsOut());
}

INSTANTIATE_TEST_SUITE_P(
    Planes, PlaneContractTest,
    ::testing::Values(PlaneCase{"Inline", Plane::kInline, PlaneCase::kOwn},
                      PlaneCase{"InlineUnderTls", Plane::kInline, PlaneCase::kOwn, true},
                      PlaneCase{"FastFromMemfd", Plane::kFast, PlaneCase::kMemfd},
                      PlaneCase{"FastFromAFile", Plane::kFast, PlaneCase::kFile},
                      PlaneCase{"Tcp", Plane::kBulk, PlaneCase::kOwn},
                      PlaneCase{"TcpUnderTls", Plane::kBulk, PlaneCase::kOwn, true}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace mnemo::client
