#include "client/cpp/read_assembly.h"

#include <numeric>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "tests/support/status_matchers.h"

namespace mnemo::client {
namespace {

using ::testing::HasSubstr;

v1::GetHeader Header(uint32_t index, uint64_t size, uint64_t following) {
  v1::GetHeader header;
  header.set_index(index);
  header.set_size(size);
  header.set_bytes_following(following);
  return header;
}

class ReadAssemblyTest : public ::testing::Test {
 protected:
  // Two parts of eight bytes each.
  ReadAssemblyTest() : memory_(16, 0) {
    for (size_t i = 0; i < 2; ++i) {
      destinations_.push_back({.memory = MutableBytes(memory_).subspan(8 * i, 8)});
    }
  }

  ReadAssembly Assembly() {
    return ReadAssembly({.space = "s", .destinations = destinations_, .verify = verify_});
  }
  static absl::Status Data(ReadAssembly& assembly, uint32_t index, uint64_t offset,
                           const std::string& text) {
    const Bytes whole = AsBytes(text);
    return assembly.OnData(
        {.index = index, .offset = offset, .data = SliceCursor(std::span(&whole, 1))});
  }
  std::string Text(size_t part) const {
    return std::string(memory_.begin() + static_cast<long>(8 * part),
                       memory_.begin() + static_cast<long>(8 * part + 8));
  }

  std::vector<uint8_t> memory_;
  std::vector<Destination> destinations_;
  bool verify_ = false;
};

TEST_F(ReadAssemblyTest, PutsPiecesOfSeveralPartsWhereTheyBelong) {
  ReadAssembly assembly = Assembly();
  EXPECT_OK(assembly.OnHeader(Header(0, 8, 8)));
  EXPECT_OK(assembly.OnHeader(Header(1, 8, 8)));
  EXPECT_OK(Data(assembly, 1, 4, "EFGH"));
  EXPECT_OK(Data(assembly, 0, 0, "abcd"));
  EXPECT_OK(Data(assembly, 1, 0, "ABCD"));
  EXPECT_OK(Data(assembly, 0, 4, "efgh"));
  ASSERT_OK_AND_ASSIGN(const GetResult result, assembly.Finish(absl::OkStatus()));
  EXPECT_OK(result.parts[0].status);
  EXPECT_OK(result.parts[1].status);
  EXPECT_EQ(Text(0), "abcdefgh");
  EXPECT_EQ(Text(1), "ABCDEFGH");
}

TEST_F(ReadAssemblyTest, OneMissingPartFailsAlone) {
  ReadAssembly assembly = Assembly();
  v1::GetHeader missing;
  missing.set_index(0);
  missing.mutable_error()->set_code(5);
  missing.mutable_error()->set_message("not here");
  EXPECT_OK(assembly.OnHeader(missing));
  EXPECT_OK(assembly.OnHeader(Header(1, 8, 8)));
  EXPECT_OK(Data(assembly, 1, 0, "ABCDEFGH"));
  ASSERT_OK_AND_ASSIGN(const GetResult result, assembly.Finish(absl::OkStatus()));
  EXPECT_THAT(result.parts[0].status, StatusIs(absl::StatusCode::kNotFound, "not here"));
  EXPECT_OK(result.parts[1].status);
}

TEST_F(ReadAssemblyTest, ASecondHeaderWithAnErrorWithdrawsThePart) {
  ReadAssembly assembly = Assembly();
  EXPECT_OK(assembly.OnHeader(Header(0, 8, 8)));
  EXPECT_OK(Data(assembly, 0, 0, "abcd"));
  v1::GetHeader withdrawn;
  withdrawn.set_index(0);
  withdrawn.mutable_error()->set_code(15);
  EXPECT_OK(assembly.OnHeader(withdrawn));
  EXPECT_THAT(Data(assembly, 0, 4, "efgh"), StatusIs(absl::StatusCode::kInternal));
  ASSERT_OK_AND_ASSIGN(const GetResult result, assembly.Finish(absl::OkStatus()));
  EXPECT_THAT(result.parts[0].status, StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ReadAssemblyTest, RefusesAnswersThatLie) {
  const auto fails = [&](auto&& step) {
    ReadAssembly assembly = Assembly();
    EXPECT_OK(assembly.OnHeader(Header(0, 8, 8)));
    EXPECT_THAT(step(assembly), StatusIs(absl::StatusCode::kInternal));
  };
  fails([](ReadAssembly& a) { return a.OnHeader(Header(2, 8, 8)); });
  fails([](ReadAssembly& a) { return a.OnHeader(Header(0, 8, 8)); });
  fails([](ReadAssembly& a) { return a.OnHeader(Header(1, 8, 9)); });
  fails([](ReadAssembly& a) { return Data(a, 1, 0, "abcd"); });
  fails([](ReadAssembly& a) { return Data(a, 7, 0, "abcd"); });
  fails([](ReadAssembly& a) { return Data(a, 0, 0, "abcdefghi"); });
  fails([](ReadAssembly& a) { return Data(a, 0, 5, "abcd"); });
  fails([](ReadAssembly& a) { return Data(a, 0, ~0ULL, "ab"); });
  fails([](ReadAssembly& a) { return Data(a, 0, 0, ""); });
  fails([](ReadAssembly& a) {
    EXPECT_OK(Data(a, 0, 2, "abcd"));
    return Data(a, 0, 4, "xx");
  });
  fails([](ReadAssembly& a) {
    EXPECT_OK(Data(a, 0, 2, "abcd"));
    return Data(a, 0, 0, "xxx");
  });
}

TEST_F(ReadAssemblyTest, EveryOrderOfPiecesCoversThePart) {
  std::vector<size_t> order(8);
  std::iota(order.begin(), order.end(), size_t{0});
  int rounds = 0;
  do {
    ReadAssembly assembly = Assembly();
    ASSERT_OK(assembly.OnHeader(Header(0, 8, 8)));
    for (const size_t at : order) ASSERT_OK(Data(assembly, 0, at, std::string(1, 'a' + at)));
    ASSERT_OK_AND_ASSIGN(const GetResult result, assembly.Finish(absl::OkStatus()));
    ASSERT_OK(result.parts[0].status);
    ASSERT_EQ(Text(0), "abcdefgh");
  } while (std::next_permutation(order.begin(), order.end()) && ++rounds < 5000);
}

TEST_F(ReadAssemblyTest, ALayerRangeLandsInABufferForThatRange) {
  destinations_[0] = {.memory = MutableBytes(memory_).first(4), .part_offset = 4};
  ReadAssembly assembly = Assembly();
  EXPECT_OK(assembly.OnHeader(Header(0, 8, 4)));
  EXPECT_OK(Data(assembly, 0, 4, "efgh"));
  ASSERT_OK_AND_ASSIGN(const GetResult result, assembly.Finish(absl::OkStatus()));
  EXPECT_OK(result.parts[0].status);
  EXPECT_EQ(Text(0).substr(0, 4), "efgh");
}

TEST_F(ReadAssemblyTest, NeverWritesBesideTheDestination) {
  destinations_[0] = {.memory = MutableBytes(memory_).first(4), .part_offset = 0};
  ReadAssembly assembly = Assembly();
  EXPECT_OK(assembly.OnHeader(Header(0, 8, 8)));
  EXPECT_OK(Data(assembly, 0, 0, "abcdefgh"));
  ASSERT_OK_AND_ASSIGN(const GetResult result, assembly.Finish(absl::OkStatus()));
  EXPECT_THAT(result.parts[0].status,
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("destinations[0]")));
  EXPECT_EQ(memory_, std::vector<uint8_t>(16, 0));
}

TEST_F(ReadAssemblyTest, VerifyFindsBytesThatDifferFromTheirDigest) {
  verify_ = true;
  ReadAssembly assembly = Assembly();
  v1::GetHeader header = Header(0, 8, 8);
  const Digest digest = DigestOf(AsBytes("abcdefgh"));
  header.mutable_digest()->set_high(digest.high);
  header.mutable_digest()->set_low(digest.low);
  EXPECT_OK(assembly.OnHeader(header));
  header.set_index(1);
  EXPECT_OK(assembly.OnHeader(header));
  EXPECT_OK(Data(assembly, 0, 0, "abcdefgh"));
  EXPECT_OK(Data(assembly, 1, 0, "abcdefgX"));
  ASSERT_OK_AND_ASSIGN(const GetResult result, assembly.Finish(absl::OkStatus()));
  EXPECT_OK(result.parts[0].status);
  EXPECT_THAT(result.parts[1].status, StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ReadAssemblyTest, WhatWasReadBeforeAFailureCounts) {
  ReadAssembly assembly = Assembly();
  EXPECT_THAT(assembly.Finish(absl::UnavailableError("gone")),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_OK(assembly.OnHeader(Header(0, 8, 8)));
  EXPECT_OK(Data(assembly, 0, 0, "abcdefgh"));
  EXPECT_OK(assembly.OnHeader(Header(1, 8, 8)));
  EXPECT_OK(Data(assembly, 1, 0, "ABCD"));
  ASSERT_OK_AND_ASSIGN(const GetResult result, assembly.Finish(absl::UnavailableError("gone")));
  EXPECT_OK(result.parts[0].status);
  EXPECT_THAT(result.parts[1].status, StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(ReadAssemblyTest, AStreamThatEndsEarlyIsNoHit) {
  ReadAssembly assembly = Assembly();
  EXPECT_OK(assembly.OnHeader(Header(0, 8, 8)));
  EXPECT_OK(Data(assembly, 0, 0, "abcdefg"));
  ASSERT_OK_AND_ASSIGN(const GetResult result, assembly.Finish(absl::OkStatus()));
  EXPECT_THAT(result.parts[0].status, StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(result.parts[1].status, StatusIs(absl::StatusCode::kInternal));
}

}  // namespace
}  // namespace mnemo::client
