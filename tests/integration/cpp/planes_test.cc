// The C++ client and the real daemon over the fast lane, and how a client chooses.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/cpp/daemon_test.h"

namespace mnemo::client {
namespace {

using ::testing::HasSubstr;

constexpr size_t kMiB = 1 << 20;

class PlanesTest : public DaemonTest {
 protected:
  PlanesTest() : DaemonTest("256MiB") {}
  void SetUp() override {
    StartDaemon();
    Connect({.target = daemon_->tcp()});
  }

  void Connect(const ClientOptions& options) {
    memory_.reset();
    ASSERT_NO_FATAL_FAILURE(DaemonTest::Connect(options));
    auto memory = client_->AllocateShared(16 * kMiB);
    ASSERT_OK(memory);
    memory_ = *std::move(memory);
    for (size_t i = 0; i < memory_->bytes().size(); ++i) {
      memory_->bytes()[i] = static_cast<uint8_t>(i * 31 + i / 4096);
    }
  }

  std::unique_ptr<SharedMemory> memory_;
};

TEST_F(PlanesTest, SharedMemoryTravelsByTheFastLaneAndOtherMemoryInline) {
  const MutableBytes shared = memory_->bytes();
  ASSERT_OK_AND_ASSIGN(const PutResult put, Put("k", shared.first(3 * kMiB + 5)));
  EXPECT_EQ(put.plane, Plane::kFast);
  EXPECT_EQ(put.parts[0].outcome, PutOutcome::kStored);
  EXPECT_EQ(put.parts[0].digest, DigestOf(shared.first(3 * kMiB + 5)));

  const MutableBytes into = shared.subspan(8 * kMiB, 3 * kMiB + 5);
  ASSERT_OK_AND_ASSIGN(const GetResult got, Get("k", into));
  EXPECT_EQ(got.plane, Plane::kFast);
  EXPECT_OK(got.parts[0].status);
  EXPECT_TRUE(std::equal(into.begin(), into.end(), shared.begin()));

  std::vector<uint8_t> own(3 * kMiB + 5);
  ASSERT_OK_AND_ASSIGN(const GetResult inline_got, Get("k", own));
  EXPECT_EQ(inline_got.plane, Plane::kInline);
  EXPECT_TRUE(std::equal(own.begin(), own.end(), shared.begin()));
  EXPECT_THAT(Get("k", own, {.plane = PlaneChoice::kFast}).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("shared memory")));
  ASSERT_OK_AND_ASSIGN(const GetResult told, Get("k", into, {.plane = PlaneChoice::kInline}));
  EXPECT_EQ(told.plane, Plane::kInline);

  ASSERT_OK_AND_ASSIGN(const GetResult missing, Get("none", into));
  EXPECT_THAT(missing.parts[0].status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
}

TEST_F(PlanesTest, EveryCallSaysTheSameOnBothPlanes) {
  ASSERT_OK(Put("a", memory_->bytes().first(4096)));
  ASSERT_OK(Put("b", memory_->bytes().first(4096)));
  const std::vector<std::string_view> keys = {"a", "b", "c"};
  for (const PlaneChoice plane : {PlaneChoice::kInline, PlaneChoice::kFast}) {
    const CallOptions options{.plane = plane};
    ASSERT_OK_AND_ASSIGN(
        const MatchResult match,
        client_->blocks().Match({.space = "opaque", .keys = keys, .want_bitmap = true}, options));
    EXPECT_EQ(match.plane == Plane::kFast, plane == PlaneChoice::kFast);
    EXPECT_EQ(match.blocks, 2u);
    EXPECT_EQ(match.tokens, 32u);
    EXPECT_EQ(match.fetch_bytes, 8192u);
    EXPECT_EQ(match.present, (std::vector<bool>{true, true, false}));
    ASSERT_EQ(match.runs.size(), 1u);
    EXPECT_EQ(match.runs[0].level, Level::kL1);
    ASSERT_OK_AND_ASSIGN(const uint32_t found,
                         client_->blocks().Touch({.space = "opaque", .keys = keys}, options));
    EXPECT_EQ(found, 2u);
    ASSERT_OK_AND_ASSIGN(
        const OfferResult offer,
        client_->blocks().Offer(
            {.space = "opaque", .parts = {{.key = "a", .size = 4096}, {.key = "", .size = 1}}},
            options));
    EXPECT_EQ(offer.plane == Plane::kFast, plane == PlaneChoice::kFast);
    EXPECT_EQ(offer.verdicts[0].verdict, Verdict::kPresent);
    EXPECT_EQ(offer.verdicts[0].digest, DigestOf(memory_->bytes().first(4096)));
    EXPECT_EQ(offer.verdicts[1].verdict, Verdict::kRefused);
    EXPECT_THAT(client_->blocks().Match({.space = "nowhere", .keys = keys}, options).status(),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("nowhere")));
    // A conflict keeps what is there.
    ASSERT_OK_AND_ASSIGN(const PutResult put,
                         Put("a", memory_->bytes().subspan(4096, 4096), options));
    EXPECT_EQ(put.parts[0].outcome, PutOutcome::kConflict);
    EXPECT_EQ(put.parts[0].digest, DigestOf(memory_->bytes().first(4096)));
  }
}

// What lies on disk alone after a start is brought into RAM, whichever way that is asked.
TEST_F(PlanesTest, PrefetchBringsAChainIntoRamBeforeItIsRead) {
  constexpr size_t kBytes = 64 << 10;
  std::vector<std::string> names;
  std::vector<PartPut> parts;
  for (uint32_t i = 0; i < 64; ++i) names.push_back("k" + std::to_string(i));
  for (uint32_t i = 0; i < 64; ++i) {
    parts.push_back({.key = names[i],
                     .data = memory_->bytes().subspan(i * 4096, kBytes),
                     .depth = i,
                     .parent = i == 0 ? std::string_view() : std::string_view(names[i - 1])});
  }
  ASSERT_OK(
      client_->blocks().Put({.space = "opaque", .parts = parts, .durability = Durability::kSync}));
  for (const PlaneChoice plane : {PlaneChoice::kInline, PlaneChoice::kFast}) {
    daemon_.reset();
    ASSERT_NO_FATAL_FAILURE(StartDaemon());
    ASSERT_NO_FATAL_FAILURE(Connect({.target = daemon_->tcp()}));
    const CallOptions options{.plane = plane};
    const std::vector<std::string_view> keys = ViewsOf(names);
    const auto levels = [&] {
      std::map<Level, size_t> count;
      const auto described = client_->blocks().Describe({.space = "opaque", .keys = keys});
      EXPECT_OK(described);
      for (const PartInfo& part : *described) ++count[part.level];
      return count;
    };
    ASSERT_EQ(levels()[Level::kL3], 64u);
    std::vector<std::string_view> asked = keys;
    asked.push_back("none");
    ASSERT_OK_AND_ASSIGN(
        const PrefetchResult prefetch,
        client_->blocks().Prefetch({.space = "opaque", .keys = asked, .parts = {{}}}, options));
    EXPECT_EQ(prefetch.queued, 64u);
    EXPECT_EQ(prefetch.absent, 1u);
    EXPECT_NE(prefetch.prefetch, 0u);
    while (levels()[Level::kL1] < 64) std::this_thread::yield();
    ASSERT_OK_AND_ASSIGN(
        const PrefetchResult again,
        client_->blocks().Prefetch({.space = "opaque", .keys = keys, .cancel = prefetch.prefetch},
                                   options));
    EXPECT_EQ(again.in_ram, 64u);
    const MutableBytes into = memory_->bytes().subspan(8 * kMiB, kBytes);
    for (size_t i = 0; i < names.size(); ++i) {
      ASSERT_OK_AND_ASSIGN(const GetResult got, Get(names[i], into, options));
      ASSERT_OK(got.parts[0].status);
      EXPECT_EQ(got.parts[0].level, Level::kL1) << names[i];
    }
    EXPECT_THAT(client_->blocks().Prefetch({.space = "nowhere", .keys = keys}, options).status(),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("nowhere")));
  }
}

// Nobody asks: who reads a chain block by block finds the next ones in RAM.
TEST_F(PlanesTest, AChainThatIsReadFromDiskComesAheadOfItsReader) {
  constexpr size_t kBytes = 64 << 10;
  constexpr size_t kFollowed = 16;  // prefetch.follow
  std::vector<std::string> names;
  for (uint32_t i = 0; i < 40; ++i) {
    names.push_back("k" + std::to_string(i));
    const PartPut part{.key = names[i],
                       .data = memory_->bytes().subspan(i * 4096, kBytes),
                       .depth = i,
                       .parent = i == 0 ? std::string_view() : std::string_view(names[i - 1])};
    ASSERT_OK(client_->blocks().Put(
        {.space = "opaque", .parts = {part}, .durability = Durability::kSync}));
  }
  daemon_.reset();
  ASSERT_NO_FATAL_FAILURE(StartDaemon());
  ASSERT_NO_FATAL_FAILURE(Connect({.target = daemon_->tcp()}));
  const std::vector<std::string_view> keys = ViewsOf(names);
  // Returns once the block lies in RAM.
  const auto await = [&](size_t index) {
    for (;;) {
      const auto described =
          client_->blocks().Describe({.space = "opaque", .keys = std::span(&keys[index], 1)});
      ASSERT_OK(described);
      if ((*described)[0].level == Level::kL1) return;
      std::this_thread::yield();
    }
  };
  const MutableBytes into = memory_->bytes().subspan(8 * kMiB, kBytes);
  for (size_t i = 0; i < names.size(); ++i) {
    ASSERT_OK_AND_ASSIGN(const GetResult got, Get(names[i], into));
    ASSERT_OK(got.parts[0].status);
    EXPECT_EQ(got.parts[0].level, i == 0 ? Level::kL3 : Level::kL1) << names[i];
    EXPECT_TRUE(std::equal(into.begin(), into.end(), memory_->bytes().begin() + i * 4096));
    for (size_t ahead = i + 1; ahead <= std::min(i + kFollowed, names.size() - 1); ++ahead) {
      ASSERT_NO_FATAL_FAILURE(await(ahead));
    }
  }
}

TEST_F(PlanesTest, AnEnginesOwnFileIsShared) {
  const std::string path = "/dev/shm/mnemo-planes-test-" + std::to_string(::getpid());
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  ASSERT_GE(file, 0);
  ::unlink(path.c_str());
  ASSERT_EQ(::posix_fallocate(file, 0, kMiB), 0);
  void* const mapped = ::mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  const MutableBytes bytes(static_cast<uint8_t*>(mapped), kMiB);
  {
    ASSERT_OK_AND_ASSIGN(const auto shared, client_->Share(file, bytes));
    std::fill_n(bytes.begin(), 4096, uint8_t{7});
    ASSERT_OK_AND_ASSIGN(const PutResult put, Put("k", bytes.first(4096)));
    EXPECT_EQ(put.plane, Plane::kFast);
    ASSERT_OK_AND_ASSIGN(const GetResult got, Get("k", bytes.subspan(8192, 4096)));
    EXPECT_EQ(got.plane, Plane::kFast);
    EXPECT_TRUE(std::equal(bytes.begin() + 8192, bytes.begin() + 12288, bytes.begin()));
  }
  ASSERT_OK_AND_ASSIGN(const GetResult got, Get("k", bytes.subspan(8192, 4096)));
  EXPECT_EQ(got.plane, Plane::kInline) << "it is no longer shared";
  ::munmap(mapped, kMiB);
  ::close(file);
}

TEST_F(PlanesTest, ADaemonThatIsStartedAgainIsFoundAgain) {
  ASSERT_OK(Put("k", memory_->bytes().first(4096)));
  daemon_->Kill();
  daemon_.reset();
  StartDaemon();
  // Another port, but the same socket: the uid says who it is.
  Connect({.target = daemon_->tcp(), .stream_socket = daemon_->streams()});
  ASSERT_OK_AND_ASSIGN(const PutResult put, Put("k", memory_->bytes().first(4096)));
  EXPECT_EQ(put.plane, Plane::kFast);
  EXPECT_EQ(daemon_->Stop(), 0);
  daemon_.reset();
  EXPECT_THAT(Put("l", memory_->bytes().first(4096), {.plane = PlaneChoice::kFast}).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("")));
  StartDaemon();
  // Registered anew, once the pause after the failure is over.
  absl::StatusOr<PutResult> again;
  do {
    again = Put("m", memory_->bytes().first(4096), {.plane = PlaneChoice::kFast});
  } while (absl::IsUnavailable(again.status()));
  ASSERT_OK(again);
  EXPECT_EQ(again->plane, Plane::kFast);
}

TEST_F(PlanesTest, CancellationAndDeadlinesHold) {
  ASSERT_OK(Put("k", memory_->bytes().first(4096)));
  CancelSource cancelled;
  cancelled.Cancel();
  EXPECT_THAT(
      Get("k", memory_->bytes().first(4096), {.cancel = &cancelled, .plane = PlaneChoice::kFast})
          .status(),
      ::testing::AnyOf(StatusIs(absl::StatusCode::kCancelled, HasSubstr("")),
                       // It was faster.
                       IsOk()));
  // A daemon that stands still answers nobody.
  daemon_->Freeze();
  EXPECT_THAT(
      Get("k", memory_->bytes().first(4096), {.timeout = Millis(50), .plane = PlaneChoice::kFast})
          .status(),
      StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("")));
  CancelSource later;
  std::thread canceller([&] { later.Cancel(); });
  const absl::Status status =
      Get("k", memory_->bytes().first(4096), {.cancel = &later, .plane = PlaneChoice::kFast})
          .status();
  canceller.join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
  daemon_->Thaw();
}

TEST_F(PlanesTest, ManyThreadsShareAStream) {
  constexpr int kThreads = 8;
  std::vector<std::thread> threads;
  std::vector<int> wrong(kThreads, 0);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t, &wrong] {
      const size_t size = 64 * 1024;
      const MutableBytes own = memory_->bytes().subspan(static_cast<size_t>(t) * kMiB, size);
      const MutableBytes into =
          memory_->bytes().subspan(static_cast<size_t>(t) * kMiB + size, size);
      for (int i = 0; i < 50; ++i) {
        const std::string key = std::to_string(t) + "-" + std::to_string(i);
        std::fill(own.begin(), own.end(), static_cast<uint8_t>(t * 50 + i));
        const auto put = Put(key, own, {.plane = PlaneChoice::kFast});
        const auto got = Get(key, into, {.plane = PlaneChoice::kFast});
        if (!put.ok() || !got.ok() || !got->parts[0].status.ok() ||
            !std::equal(into.begin(), into.end(), own.begin())) {
          ++wrong[static_cast<size_t>(t)];
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ::testing::Each(0));
}

}  // namespace
}  // namespace mnemo::client
