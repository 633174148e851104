#include "proto/stream/frame.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <string>
#include <vector>

namespace mnemo::stream {
namespace {

using ::testing::Eq;
using ::testing::Le;

const uint8_t* Data(const std::string& text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

std::string Request(std::string_view body, uint64_t id = 7) {
  return MakeFrame({.type = FrameType::kGet, .timeout_ms = 250, .id = id}, body);
}

// Makes the header's checksum right again.
void Reseal(std::string& frame) { StoreLittle(frame.data() + 28, Checksum32({Data(frame), 28})); }

void Feed(FrameReader& reader, std::string_view bytes) {
  while (!bytes.empty()) {
    const MutableByteView room = reader.Room();
    const size_t size = std::min(room.size(), bytes.size());
    std::copy_n(bytes.data(), size, room.data());
    reader.Filled(size);
    bytes.remove_prefix(size);
  }
}

TEST(FrameTest, ChecksumIsThatOfZlib) {
  EXPECT_EQ(Checksum32(AsBytes("123456789")), 0xCBF43926u);
  EXPECT_EQ(Checksum32({}), 0u);
}

TEST(FrameTest, AHeaderSaysWhatWasSent) {
  const std::string frame = Request("body");
  Header header;
  ASSERT_EQ(ParseHeader(Data(frame), End::kServer, header), CloseReason::kNone);
  EXPECT_EQ(header, (Header{.type = FrameType::kGet,
                            .body_bytes = 4,
                            .timeout_ms = 250,
                            .id = 7,
                            .body_checksum = Checksum32(AsBytes("body"))}));
}

TEST(FrameTest, EachWrongHeaderHasItsReason) {
  const auto reason_of = [](std::string frame, bool reseal = true) {
    if (reseal) Reseal(frame);
    Header header;
    return ParseHeader(Data(frame), End::kServer, header);
  };
  std::string frame = Request("body");
  frame[0] = 'X';
  EXPECT_EQ(reason_of(frame), CloseReason::kMagic);
  frame = Request("body");
  frame[4] = 2;
  EXPECT_EQ(reason_of(frame, false), CloseReason::kVersion);
  frame = Request("body");
  frame[6] = 1;
  EXPECT_EQ(reason_of(frame), CloseReason::kVersion) << "a flag that nobody knows";
  frame = Request("body");
  frame[16] = 99;
  EXPECT_EQ(reason_of(frame, false), CloseReason::kChecksum);
  frame = Request("body");
  frame[5] = 99;
  EXPECT_EQ(reason_of(frame), CloseReason::kType);
  frame = Request("body");
  StoreLittle(frame.data() + 8, kMaxBodyBytes + 1);
  EXPECT_EQ(reason_of(frame), CloseReason::kLength);
  frame = MakeFrame({.type = FrameType::kHello}, "x");
  StoreLittle(frame.data() + 8, uint32_t{1025});
  EXPECT_EQ(reason_of(frame), CloseReason::kLength) << "a hello has no need of more";
}

TEST(FrameTest, FramesComeInTheirDirectionOnly) {
  Header header;
  const std::string request = Request("");
  const std::string answer = MakeFrame({.type = FrameType::kGet, .answer = true}, "");
  const std::string close = MakeFrame({.type = FrameType::kClose}, "");
  EXPECT_EQ(ParseHeader(Data(request), End::kClient, header), CloseReason::kType);
  EXPECT_EQ(ParseHeader(Data(answer), End::kServer, header), CloseReason::kType);
  EXPECT_EQ(ParseHeader(Data(answer), End::kClient, header), CloseReason::kNone);
  EXPECT_TRUE(header.answer);
  EXPECT_EQ(ParseHeader(Data(close), End::kClient, header), CloseReason::kNone);
  EXPECT_EQ(ParseHeader(Data(close), End::kServer, header), CloseReason::kNone);
  std::string answered_cancel = MakeFrame({.type = FrameType::kCancel}, "");
  answered_cancel[5] = static_cast<char>(16 | 0x80);
  Reseal(answered_cancel);
  EXPECT_EQ(ParseHeader(Data(answered_cancel), End::kClient, header), CloseReason::kType);
}

TEST(FrameTest, CreditComesFromTheServerAndDataFromBoth) {
  Header header;
  std::string credit = MakeFrame({.type = FrameType::kCredit, .answer = true}, "");
  EXPECT_EQ(ParseHeader(Data(credit), End::kClient, header), CloseReason::kNone);
  credit[5] = 18;
  Reseal(credit);
  EXPECT_EQ(ParseHeader(Data(credit), End::kServer, header), CloseReason::kType);
  const std::string head(kDataHeadBytes, 'h');
  std::string data = MakeDataFrame({.type = FrameType::kData}, head, kMaxDataBytes);
  EXPECT_EQ(ParseHeader(Data(data), End::kServer, header), CloseReason::kNone);
  EXPECT_EQ(header.body_bytes, kDataHeadBytes + kMaxDataBytes);
  StoreLittle(data.data() + 8, kDataHeadBytes + kMaxDataBytes + 1);
  Reseal(data);
  EXPECT_EQ(ParseHeader(Data(data), End::kServer, header), CloseReason::kLength);
  StoreLittle(data.data() + 8, kDataHeadBytes);
  Reseal(data);
  EXPECT_EQ(ParseHeader(Data(data), End::kServer, header), CloseReason::kLength)
      << "payload of nothing";
}

TEST(FrameReaderTest, PayloadIsItsReadersToTake) {
  const std::string head(kDataHeadBytes, 'h');
  const std::string payload(1000, 'p');
  const std::string bytes =
      MakeDataFrame({.type = FrameType::kData, .id = 1}, head, 1000) + payload + Request("next", 2);
  for (const size_t step : {size_t{1}, size_t{100}, bytes.size()}) {
    FrameReader reader(End::kServer);
    std::string taken;
    std::vector<uint64_t> ids;
    for (size_t at = 0; at < bytes.size(); at += step) {
      Feed(reader, std::string_view(bytes).substr(at, step));
      for (;;) {
        if (const auto frame = reader.Next()) {
          ids.push_back(frame->header.id);
          if (ids.size() == 1) {
            EXPECT_EQ(AsText(frame->body), head);
            EXPECT_EQ(reader.payload_left(), 1000u);
          }
          continue;
        }
        if (reader.payload().empty()) break;
        // Some at a time, of what is here.
        const size_t some = std::min<size_t>(reader.payload().size(), 7);
        taken += AsText(reader.payload().first(some));
        reader.TookPayload(some);
      }
    }
    EXPECT_EQ(taken, payload) << "in pieces of " << step;
    EXPECT_THAT(ids, ::testing::ElementsAre(1, 2)) << "in pieces of " << step;
  }
  // What comes past the reader counts too.
  FrameReader reader(End::kServer);
  Feed(reader, std::string_view(bytes).substr(0, kHeaderBytes + kDataHeadBytes));
  ASSERT_TRUE(reader.Next());
  EXPECT_TRUE(reader.payload().empty());
  reader.TookPayload(1000);
  Feed(reader, Request("next", 2));
  const auto next = reader.Next();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->header.id, 2u);
}

TEST(FrameReaderTest, TheHeadOfPayloadIsChecked) {
  std::string bytes =
      MakeDataFrame({.type = FrameType::kData}, std::string(kDataHeadBytes, 'h'), 5);
  bytes[kHeaderBytes + 3] ^= 1;
  FrameReader reader(End::kServer);
  Feed(reader, bytes);
  EXPECT_FALSE(reader.Next());
  EXPECT_EQ(reader.reason(), CloseReason::kChecksum);
}

TEST(FrameReaderTest, PutsFramesTogetherHoweverTheyAreCut) {
  std::string bytes;
  std::vector<std::string> bodies;
  for (size_t size : {0, 1, 31, 32, 4096, 100'000, 5}) {
    bodies.emplace_back(size, static_cast<char>('a' + bodies.size()));
    bytes += Request(bodies.back(), bodies.size());
  }
  for (const size_t step : {size_t{1}, size_t{33}, size_t{4097}, bytes.size()}) {
    FrameReader reader(End::kServer);
    std::vector<std::string> got;
    for (size_t at = 0; at < bytes.size(); at += step) {
      Feed(reader, std::string_view(bytes).substr(at, step));
      while (const auto frame = reader.Next()) {
        got.emplace_back(AsText(frame->body));
        EXPECT_EQ(frame->header.id, got.size());
      }
    }
    EXPECT_EQ(got, bodies) << "in pieces of " << step;
    EXPECT_EQ(reader.reason(), CloseReason::kNone);
    EXPECT_EQ(reader.partial(), 0u);
    reader.Rest();
  }
}

TEST(FrameReaderTest, TakesMemoryForWhatHasComeAndNotForWhatIsAnnounced) {
  FrameReader reader(End::kServer);
  std::string frame = Request("");
  StoreLittle(frame.data() + 8, kMaxBodyBytes);
  Reseal(frame);
  Feed(reader, frame);
  EXPECT_FALSE(reader.Next());
  EXPECT_EQ(reader.announced(), kMaxBodyBytes);
  EXPECT_THAT(reader.Room().size(), Le(16384u));
  Feed(reader, std::string(100'000, 'x'));
  EXPECT_FALSE(reader.Next());
  EXPECT_THAT(reader.Room().size() + reader.partial(), Le(2 * 100'032u));
}

TEST(FrameReaderTest, SaysWhyItIsBrokenAndGivesNothingMore) {
  FrameReader reader(End::kServer);
  std::string damaged = Request("body");
  damaged.back() ^= 1;
  Feed(reader, damaged + Request("good"));
  EXPECT_FALSE(reader.Next());
  EXPECT_EQ(reader.reason(), CloseReason::kChecksum);
  EXPECT_FALSE(reader.Next());
}

TEST(FrameReaderTest, EveryFlippedBitIsFound) {
  const std::string good = Request("some body");
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    FrameReader reader(End::kServer);
    Feed(reader, bad);
    EXPECT_FALSE(reader.Next()) << bit;
    EXPECT_THAT(reader.reason(), ::testing::Ne(CloseReason::kNone)) << bit;
  }
}

TEST(FrameTest, EveryReasonHasALabelOfItsOwn) {
  std::vector<std::string_view> labels;
  for (size_t i = 0; i < kCloseReasonCount; ++i) {
    labels.push_back(CloseReasonLabel(static_cast<CloseReason>(i)));
  }
  std::sort(labels.begin(), labels.end());
  EXPECT_EQ(std::unique(labels.begin(), labels.end()), labels.end());
  EXPECT_THAT(CloseReasonLabel(static_cast<CloseReason>(kCloseReasonCount)), Eq("unknown"));
}

}  // namespace
}  // namespace mnemo::stream
