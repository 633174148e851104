#include "server/transfer/region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/unit/server/transfer/hostile_client.h"

namespace mnemo {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr size_t kBytes = HostileClient::kBytes;

Descriptor Duplicate(int file) { return Descriptor(::fcntl(file, F_DUPFD_CLOEXEC, 0)); }

// A memfd, filled with 'p'.
Descriptor MakeMemory(int seals = 0, size_t bytes = kBytes) {
  Descriptor file(::memfd_create("client", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const std::string fill(bytes, HostileClient::kFill);
  EXPECT_EQ(::pwrite(file.get(), fill.data(), fill.size(), 0), static_cast<ssize_t>(bytes));
  EXPECT_EQ(::fcntl(file.get(), F_ADD_SEALS, seals), 0);
  return file;
}
constexpr int kSealed = F_SEAL_SHRINK | F_SEAL_GROW;

void PunchAll(int file) {
  ASSERT_EQ(::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kBytes), 0);
}
uint64_t Allocated(int file) {
  struct stat info {};
  EXPECT_EQ(::fstat(file, &info), 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

SliceList Whole() { return *SliceList::Create({{.offset = 0, .length = kBytes}}, kBytes, "s"); }

absl::StatusOr<std::string> In(const Region& region, const SliceList& slices) {
  std::string bytes(slices.bytes(), '?');
  const MutableByteView piece(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size());
  MNEMO_RETURN_IF_ERROR(region.CopyIn(slices, 0, {&piece, 1}));
  return bytes;
}
absl::Status Out(const Region& region, const SliceList& slices, std::string_view bytes) {
  const ByteView piece = AsBytes(bytes);
  return region.CopyOut({&piece, 1}, slices, 0);
}

// --- what every form does ---------------------------------------------------

class RegionFormTest : public ::testing::TestWithParam<RegionForm> {
 protected:
  void SetUp() override {
    switch (GetParam()) {
      case RegionForm::kMapped:
      case RegionForm::kShared: {
        const int seals = GetParam() == RegionForm::kMapped ? kSealed : 0;
        memory_ = MakeMemory(seals);
        Take(MakeFileRegion(Duplicate(memory_.get()), kBytes));
        break;
      }
      case RegionForm::kProcess: {
        client_ = std::make_unique<HostileClient>();
        ASSERT_OK_AND_ASSIGN(const Peer peer, Peer::Of(client_->socket()));
        Take(MakeProcessRegion(peer, client_->address(), kBytes));
        break;
      }
      case RegionForm::kStaging: {
        Take(MakeStagingRegion(kBytes, memory_));
        const std::string fill(kBytes, HostileClient::kFill);
        ASSERT_EQ(::pwrite(memory_.get(), fill.data(), kBytes, 0), static_cast<ssize_t>(kBytes));
        break;
      }
    }
    ASSERT_NE(region_, nullptr);
  }
  void Take(absl::StatusOr<std::unique_ptr<Region>> region) {
    ASSERT_OK(region);
    region_ = *std::move(region);
  }
  // What the client sees.
  char Peek(uint32_t offset) {
    if (client_) return client_->Peek(offset);
    char byte = 0;
    EXPECT_EQ(::pread(memory_.get(), &byte, 1, offset), 1);
    return byte;
  }

  Descriptor memory_;
  std::unique_ptr<HostileClient> client_;
  std::unique_ptr<Region> region_;
};

INSTANTIATE_TEST_SUITE_P(Forms, RegionFormTest,
                         ::testing::Values(RegionForm::kMapped, RegionForm::kShared,
                                           RegionForm::kProcess, RegionForm::kStaging),
                         [](const auto& info) { return std::string(RegionFormLabel(info.param)); });

TEST_P(RegionFormTest, SaysWhatItIs) {
  EXPECT_EQ(region_->form(), GetParam());
  EXPECT_EQ(region_->size(), kBytes);
  EXPECT_TRUE(region_->writable());
}

TEST_P(RegionFormTest, CopiesSlicesOutAndInAgain) {
  // Strided, out of order, one byte at an odd place.
  ASSERT_OK_AND_ASSIGN(
      const SliceList slices,
      SliceList::Create({{.offset = 500'000, .length = 3000, .stride = 5000, .count = 20},
                         {.offset = 7, .length = 1},
                         {.offset = kBytes - 4096, .length = 4096}},
                        kBytes, "s"));
  std::string bytes(slices.bytes(), '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 % 251);
  ASSERT_OK(Out(*region_, slices, bytes));
  EXPECT_EQ(Peek(500'000), bytes[0]);
  EXPECT_EQ(Peek(505'001), bytes[3001]);
  EXPECT_EQ(Peek(503'000), HostileClient::kFill);  // between two runs
  EXPECT_EQ(Peek(7), bytes[60'000]);
  EXPECT_EQ(Peek(8), HostileClient::kFill);
  EXPECT_EQ(Peek(kBytes - 1), bytes.back());
  ASSERT_OK_AND_ASSIGN(const std::string again, In(*region_, slices));
  EXPECT_EQ(again, bytes);
}

TEST_P(RegionFormTest, CopiesPiecesFromTheMiddleOfTheSlices) {
  ASSERT_OK_AND_ASSIGN(
      const SliceList slices,
      SliceList::Create({{.offset = 0, .length = 10, .stride = 100, .count = 10}}, kBytes, "s"));
  const std::string_view one = "abcdefg";
  const std::string_view two = "hijklmnop";
  const ByteView pieces[] = {AsBytes(one), {}, AsBytes(two)};
  ASSERT_OK(region_->CopyOut(pieces, slices, 15));
  EXPECT_EQ(Peek(104), HostileClient::kFill);
  EXPECT_EQ(Peek(105), 'a');
  EXPECT_EQ(Peek(109), 'e');
  EXPECT_EQ(Peek(200), 'f');
  EXPECT_EQ(Peek(209), 'o');
  EXPECT_EQ(Peek(300), 'p');
  EXPECT_EQ(Peek(301), HostileClient::kFill);

  uint8_t first[4];
  uint8_t second[3];
  const MutableByteView into[] = {first, {}, second};
  ASSERT_OK(region_->CopyIn(slices, 18, into));
  EXPECT_EQ(AsText(first), "defg");
  EXPECT_EQ(AsText(second), "hij");
}

TEST_P(RegionFormTest, TakesMoreRunsAndPiecesThanOneCallDoes) {
  ASSERT_OK_AND_ASSIGN(
      const SliceList slices,
      SliceList::Create({{.offset = 1, .length = 3, .stride = 7, .count = 5000}}, kBytes, "s"));
  std::string bytes(slices.bytes(), '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i % 127);
  std::vector<ByteView> pieces;
  for (size_t i = 0; i < bytes.size(); i += 4) {
    pieces.push_back(AsBytes(std::string_view(bytes).substr(i, 4)));
  }
  ASSERT_OK(region_->CopyOut(pieces, slices, 0));
  EXPECT_EQ(Peek(1 + 4999 * 7 + 2), bytes.back());
  std::string again(bytes.size(), '\0');
  std::vector<MutableByteView> into;
  auto* data = reinterpret_cast<uint8_t*>(again.data());
  for (size_t i = 0; i < again.size(); i += 5) into.emplace_back(data + i, 5);
  ASSERT_OK(region_->CopyIn(slices, 0, into));
  EXPECT_EQ(again, bytes);
}

TEST_P(RegionFormTest, RefusesMoreThanTheSlicesHold) {
  ASSERT_OK_AND_ASSIGN(const SliceList slices,
                       SliceList::Create({{.offset = 0, .length = 10}}, kBytes, "s"));
  EXPECT_THAT(Out(*region_, slices, "12345678901"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("slices hold 10 bytes")));
  uint8_t byte;
  const MutableByteView piece(&byte, 1);
  EXPECT_THAT(region_->CopyIn(slices, 10, {&piece, 1}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(region_->CopyIn(slices, UINT64_MAX, {&piece, 1}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(Peek(0), HostileClient::kFill);
}

TEST_P(RegionFormTest, RefusesSlicesThatWereCheckedForALargerOne) {
  ASSERT_OK_AND_ASSIGN(const SliceList slices,
                       SliceList::Create({{.offset = kBytes, .length = 1}}, kBytes + 1, "s"));
  EXPECT_THAT(Out(*region_, slices, "x"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(RegionFormTest, HoldsACopyThatTheClientCannotChange) {
  ASSERT_OK_AND_ASSIGN(const std::string before, In(*region_, Whole()));
  ASSERT_OK(Out(*region_, Whole(), std::string(kBytes, 'q')));
  EXPECT_EQ(before, std::string(kBytes, HostileClient::kFill));
}

// --- files ------------------------------------------------------------------

TEST(FileRegionTest, MapsOnlyWhatKeepsItsSize) {
  for (const int seals : {0, F_SEAL_SHRINK, F_SEAL_GROW}) {
    ASSERT_OK_AND_ASSIGN(const auto region, MakeFileRegion(MakeMemory(seals), kBytes));
    EXPECT_EQ(region->form(), RegionForm::kShared) << seals;
  }
  ASSERT_OK_AND_ASSIGN(const auto region, MakeFileRegion(MakeMemory(kSealed), kBytes));
  EXPECT_EQ(region->form(), RegionForm::kMapped);
}

TEST(FileRegionTest, RefusesALieAboutTheSize) {
  for (const int seals : {0, kSealed}) {
    EXPECT_THAT(MakeFileRegion(MakeMemory(seals), kBytes + 1),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("size: 1048577")));
    for (const uint64_t size : {uint64_t{0}, UINT64_MAX, kMaxRegionBytes + 1}) {
      EXPECT_THAT(MakeFileRegion(MakeMemory(seals), size),
                  StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("size: ")));
    }
  }
}

TEST(FileRegionTest, RefusesWhatIsNoMemory) {
  TempDir dir;
  std::ofstream(dir / "file") << std::string(100, 'x');
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const Descriptor other(ends[1]);
  Descriptor huge(::memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
  std::vector<Descriptor> files;
  files.emplace_back(ends[0]);
  files.emplace_back(::open("/dev/zero", O_RDWR | O_CLOEXEC));
  files.emplace_back(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  files.emplace_back(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (huge.valid() && ::ftruncate(huge.get(), 2 << 20) == 0) files.push_back(std::move(huge));
  files.emplace_back(-1);
  for (Descriptor& file : files) {
    EXPECT_THAT(MakeFileRegion(std::move(file), 1),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("descriptor: ")));
  }
}

TEST(FileRegionTest, RefusesDescriptorsThatCannotBeReadOrThatAppend) {
  const Descriptor memory = MakeMemory();
  const std::string path = "/proc/self/fd/" + std::to_string(memory.get());
  EXPECT_THAT(MakeFileRegion(Descriptor(::open(path.c_str(), O_WRONLY | O_CLOEXEC)), 1),
              StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(MakeFileRegion(Descriptor(::open(path.c_str(), O_PATH | O_CLOEXEC)), 1),
              StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(MakeFileRegion(Descriptor(::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC)), 1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("O_APPEND")));
}

TEST(FileRegionTest, WritesNothingToWhatIsReadOnly) {
  const Descriptor sealed = MakeMemory(kSealed);
  const Descriptor open = MakeMemory();
  for (const Descriptor* memory : {&sealed, &open}) {
    const std::string path = "/proc/self/fd/" + std::to_string(memory->get());
    ASSERT_OK_AND_ASSIGN(
        const auto region,
        MakeFileRegion(Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), kBytes));
    EXPECT_FALSE(region->writable());
    EXPECT_OK(In(*region, Whole()));
    EXPECT_THAT(Out(*region, Whole(), "x"),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("reading only")));
  }
  ASSERT_OK_AND_ASSIGN(const auto region,
                       MakeFileRegion(MakeMemory(kSealed | F_SEAL_FUTURE_WRITE), kBytes));
  EXPECT_FALSE(region->writable());
}

TEST(FileRegionTest, FailsWhenTheFileWasCutAndDoesNotMakeItLonger) {
  const Descriptor memory = MakeMemory();
  ASSERT_OK_AND_ASSIGN(const auto region, MakeFileRegion(Duplicate(memory.get()), kBytes));
  ASSERT_EQ(::ftruncate(memory.get(), 5000), 0);
  EXPECT_THAT(In(*region, Whole()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("5000")));
  EXPECT_THAT(Out(*region, Whole(), std::string(kBytes, 'q')),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("5000")));
  struct stat info {};
  ASSERT_EQ(::fstat(memory.get(), &info), 0);
  EXPECT_EQ(info.st_size, 5000);
}

TEST(FileRegionTest, AnAppendingDescriptorGetsNothingAppended) {
  const Descriptor memory = MakeMemory();
  ASSERT_OK_AND_ASSIGN(const auto region, MakeFileRegion(Duplicate(memory.get()), kBytes));
  // Of the open file, which client and daemon share.
  ASSERT_EQ(::fcntl(memory.get(), F_SETFL, O_APPEND), 0);
  uint8_t byte = 'q';
  // Refused by Linux before 6.9, where the write below would append.
  const iovec entry{&byte, 1};
  if (::pwritev2(memory.get(), &entry, 1, 0, 0x20) < 0) GTEST_SKIP() << "no RWF_NOAPPEND here";
  ASSERT_OK(Out(*region, Whole(), std::string(kBytes, 'q')));
  struct stat info {};
  ASSERT_EQ(::fstat(memory.get(), &info), 0);
  EXPECT_EQ(info.st_size, static_cast<off_t>(kBytes));
}

TEST(FileRegionTest, ReadsHolesAsZerosAndMakesNoPagesForThem) {
  for (const int seals : {0, kSealed}) {
    const Descriptor memory = MakeMemory(seals);
    ASSERT_OK_AND_ASSIGN(const auto region, MakeFileRegion(Duplicate(memory.get()), kBytes));
    PunchAll(memory.get());
    ASSERT_OK_AND_ASSIGN(const std::string bytes, In(*region, Whole()));
    EXPECT_EQ(bytes, std::string(kBytes, '\0'));
    EXPECT_EQ(Allocated(memory.get()), 0u);
  }
}

TEST(FileRegionTest, FillsNoHoles) {
  for (const int seals : {0, kSealed}) {
    const Descriptor memory = MakeMemory(seals);
    ASSERT_OK_AND_ASSIGN(const auto region, MakeFileRegion(Duplicate(memory.get()), kBytes));
    PunchAll(memory.get());
    EXPECT_THAT(Out(*region, Whole(), std::string(kBytes, 'q')),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("have no pages")));
    EXPECT_EQ(Allocated(memory.get()), 0u);
    ASSERT_EQ(::fallocate(memory.get(), 0, 0, kBytes), 0);
    EXPECT_OK(Out(*region, Whole(), std::string(kBytes, 'q')));
  }
}

TEST(FileRegionTest, SurvivesMemoryThatChangesWhileItIsCopied) {
  const Descriptor memory = MakeMemory(kSealed);
  ASSERT_OK_AND_ASSIGN(const auto region, MakeFileRegion(Duplicate(memory.get()), kBytes));
  std::atomic<bool> stop{false};
  std::thread client([&] {
    const std::string fill(kBytes, 'z');
    while (!stop) {
      ::fallocate(memory.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kBytes);
      (void)!::pwrite(memory.get(), fill.data(), fill.size(), 0);
    }
  });
  for (int round = 0; round < 200; ++round) {
    const absl::StatusOr<std::string> in = In(*region, Whole());
    EXPECT_THAT(in, AnyOf(IsOk(), StatusIs(absl::StatusCode::kFailedPrecondition)));
    EXPECT_THAT(Out(*region, Whole(), std::string(kBytes, 'q')),
                AnyOf(IsOk(), StatusIs(absl::StatusCode::kFailedPrecondition)));
  }
  stop = true;
  client.join();
}

TEST(FileRegionTest, OutlivesTheClientsDescriptor) {
  Descriptor memory = MakeMemory(kSealed);
  ASSERT_OK_AND_ASSIGN(const auto region, MakeFileRegion(Duplicate(memory.get()), kBytes));
  memory = Descriptor();
  ASSERT_OK_AND_ASSIGN(const std::string bytes, In(*region, Whole()));
  EXPECT_EQ(bytes, std::string(kBytes, HostileClient::kFill));
}

// --- staging ----------------------------------------------------------------

TEST(StagingRegionTest, IsWholeAndKeepsItsSize) {
  Descriptor file;
  ASSERT_OK_AND_ASSIGN(const auto region, MakeStagingRegion(kBytes, file));
  EXPECT_EQ(Allocated(file.get()), kBytes);
  EXPECT_NE(::ftruncate(file.get(), 0), 0);
  EXPECT_NE(::ftruncate(file.get(), 2 * kBytes), 0);
  EXPECT_NE(::fcntl(file.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
}

TEST(StagingRegionTest, TakesWholePagesOnly) {
  Descriptor file;
  EXPECT_THAT(MakeStagingRegion(5000, file),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("size: 5000")));
  EXPECT_THAT(MakeStagingRegion(0, file), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_FALSE(file.valid());
}

// --- processes --------------------------------------------------------------

class ProcessRegionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(peer_, Peer::Of(client_.socket()));
    ASSERT_OK_AND_ASSIGN(region_, MakeProcessRegion(peer_, client_.address(), kBytes));
  }

  HostileClient client_;
  Peer peer_;
  std::unique_ptr<Region> region_;
};

TEST_F(ProcessRegionTest, FailsWhenTheMemoryIsUnmapped) {
  client_.Unmap();
  EXPECT_THAT(In(*region_, Whole()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not mapped")));
  EXPECT_THAT(Out(*region_, Whole(), std::string(kBytes, 'q')),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not mapped")));
}

TEST_F(ProcessRegionTest, FailsWhenTheProcessIsDead) {
  client_.Kill();
  EXPECT_THAT(In(*region_, Whole()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("has ended")));
  EXPECT_THAT(Out(*region_, Whole(), std::string(kBytes, 'q')),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("has ended")));
  EXPECT_THAT(MakeProcessRegion(peer_, client_.address(), kBytes),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("has ended")));
}

TEST_F(ProcessRegionTest, RefusesALieAboutAddressAndSize) {
  const auto refused = [&](uint64_t address, uint64_t size, const char* field) {
    EXPECT_THAT(MakeProcessRegion(peer_, address, size),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field)));
  };
  refused(0, 4096, "address: nothing is mapped at 0");
  refused(client_.address(), kBytes + (uint64_t{1} << 38), "address: nothing is mapped");
  refused(UINT64_MAX, 1, "address: 18446744073709551615 and 1 bytes");
  refused(UINT64_MAX - 4096, 4096, "address: nothing is mapped");
  refused(UINT64_MAX - 10, 12, "address: ");
  refused(client_.address(), 0, "size: 0");
  refused(client_.address(), UINT64_MAX, "size: ");
}

TEST(ProcessRegionPeerTest, RefusesAnUnknownProcess) {
  EXPECT_THAT(MakeProcessRegion(Peer(), 4096, 4096),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(ProcessRegionPeerTest, RefusesAnotherUid) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can be somebody else";
  HostileClient client;
  ASSERT_OK_AND_ASSIGN(const Peer peer, Peer::Of(client.socket()));
  ASSERT_EQ(::seteuid(65534), 0);
  const auto region = MakeProcessRegion(peer, client.address(), kBytes);
  ASSERT_EQ(::seteuid(0), 0);
  EXPECT_THAT(region, StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("uid 0")));
}

}  // namespace
}  // namespace mnemo
