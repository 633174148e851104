#include "client/cpp/wire.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "mnemo/v1/block.pb.h"
#include "storage/base/bytes.h"

namespace mnemo::client {
namespace {

// Cuts `text` at random places, empty slices included.
std::vector<Bytes> CutRandomly(const std::string& text, std::mt19937& random) {
  std::vector<Bytes> slices;
  Bytes rest = AsBytes(text);
  while (!rest.empty()) {
    const size_t size = std::min<size_t>(rest.size(), random() % 7);
    slices.push_back(rest.first(size));
    rest = rest.subspan(size);
  }
  return slices;
}

GetDataView EmptyView() { return {.data = SliceCursor(std::span<const Bytes>{})}; }

std::string PayloadOf(GetDataView view) {
  std::string payload(view.data.remaining(), '\0');
  EXPECT_TRUE(view.data.CopyTo(reinterpret_cast<uint8_t*>(payload.data()), payload.size()));
  return payload;
}

// What ParseGetResponse promises of any bytes whatever.
void ExpectAgreesWithProtobuf(const std::string& message, std::mt19937& random) {
  const std::vector<Bytes> slices = CutRandomly(message, random);
  GetDataView view = EmptyView();
  if (ParseGetResponse(slices, view) != ParsedGetResponse::kData) return;
  v1::GetResponse parsed;
  ASSERT_TRUE(parsed.ParseFromString(message));
  ASSERT_TRUE(parsed.has_data());
  EXPECT_EQ(view.index, parsed.data().index());
  EXPECT_EQ(view.offset, parsed.data().offset());
  EXPECT_EQ(PayloadOf(view), parsed.data().data());
}

v1::GetResponse RandomData(std::mt19937& random) {
  v1::GetResponse message;
  message.mutable_data()->set_index(static_cast<uint32_t>(random() >> random() % 32));
  message.mutable_data()->set_offset(random() >> random() % 32);
  message.mutable_data()->set_data(std::string(random() % 300, 'x'));
  return message;
}

TEST(WireTest, ReadsDataThatProtobufWroteHoweverItIsCut) {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    const v1::GetResponse message = RandomData(random);
    const std::string text = message.SerializeAsString();
    const std::vector<Bytes> slices = CutRandomly(text, random);
    GetDataView view = EmptyView();
    ASSERT_EQ(ParseGetResponse(slices, view), ParsedGetResponse::kData);
    EXPECT_EQ(view.index, message.data().index());
    EXPECT_EQ(view.offset, message.data().offset());
    EXPECT_EQ(PayloadOf(view), message.data().data());
  }
}

TEST(WireTest, AcceptsNothingThatProtobufReadsOtherwise) {
  std::mt19937 random(2);
  for (int i = 0; i < 200'000; ++i) {
    std::string text = RandomData(random).SerializeAsString();
    text.resize(std::min<size_t>(text.size(), 40));
    for (uint32_t flips = random() % 4; flips > 0; --flips) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    if (random() % 3 == 0) text.resize(random() % (text.size() + 1));
    ASSERT_NO_FATAL_FAILURE(ExpectAgreesWithProtobuf(text, random));
  }
}

TEST(WireTest, LeavesWhatIsUnusualToProtobuf) {
  GetDataView view = EmptyView();
  v1::GetResponse header;
  header.mutable_header()->set_index(3);
  for (const std::string& text :
       {std::string(), header.SerializeAsString(), std::string("\x12\x05\x08\x01", 4),
        std::string("\x12\x02\x20\x01", 4), std::string("\x92\x00\x00", 3)}) {
    const Bytes whole = AsBytes(text);
    EXPECT_EQ(ParseGetResponse(std::span(&whole, 1), view), ParsedGetResponse::kOther);
  }
}

TEST(WireTest, RefusesALengthBeyondTheMessage) {
  GetDataView view = EmptyView();
  const std::string text("\x12\x04\x1a\x7f\x00\x00", 6);
  const Bytes whole = AsBytes(text);
  EXPECT_EQ(ParseGetResponse(std::span(&whole, 1), view), ParsedGetResponse::kOther);
}

TEST(WireTest, PutPrefixAndPayloadAreWhatProtobufReads) {
  for (const uint32_t index : {0u, 1u, 127u, 128u, 1023u}) {
    for (const uint64_t offset : {uint64_t{0}, uint64_t{1} << 20, uint64_t{63} << 20}) {
      for (const size_t size : {size_t{1}, size_t{127}, size_t{128}, size_t{1} << 20}) {
        const std::string payload(size, 'p');
        v1::PutRequest parsed;
        ASSERT_TRUE(parsed.ParseFromString(PutDataPrefix(index, offset, size) + payload));
        EXPECT_EQ(parsed.data().index(), index);
        EXPECT_EQ(parsed.data().offset(), offset);
        EXPECT_EQ(parsed.data().data(), payload);
      }
    }
  }
}

TEST(SliceCursorTest, NeverReadsPastTheEnd) {
  const std::string text = "abc";
  const Bytes whole = AsBytes(text);
  SliceCursor cursor(std::span(&whole, 1));
  uint8_t to[4];
  EXPECT_FALSE(cursor.CopyTo(to, 4));
  EXPECT_TRUE(cursor.CopyTo(to, 3));
  uint64_t number = 0;
  EXPECT_FALSE(cursor.ReadVarint(number));
  EXPECT_FALSE(cursor.Skip(1));
}

}  // namespace
}  // namespace mnemo::client
