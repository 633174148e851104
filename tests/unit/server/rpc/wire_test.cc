#include "server/rpc/wire.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

std::string Joined(const std::vector<ByteView>& pieces) {
  std::string all;
  for (const ByteView piece : pieces) all += AsText(piece);
  return all;
}

// The message in slices that end where they will.
grpc::ByteBuffer Sliced(const std::string& bytes, const std::vector<size_t>& cuts) {
  std::vector<grpc::Slice> slices;
  size_t begin = 0;
  for (const size_t cut : cuts) {
    slices.emplace_back(bytes.data() + begin, cut - begin);
    begin = cut;
  }
  slices.emplace_back(bytes.data() + begin, bytes.size() - begin);
  return {slices.data(), slices.size()};
}

std::string DataMessage(uint32_t index, uint64_t offset, const std::string& data) {
  v1::PutRequest request;
  request.mutable_data()->set_index(index);
  request.mutable_data()->set_offset(offset);
  request.mutable_data()->set_data(data);
  return request.SerializeAsString();
}

// What we read is what protobuf reads, or it is refused as protobuf refuses it.
void ExpectAsProtobuf(const std::string& bytes, const std::vector<size_t>& cuts) {
  const absl::StatusOr<ParsedPut> ours = ParsePut(Sliced(bytes, cuts));
  v1::PutRequest theirs;
  const bool parsed = theirs.ParseFromString(bytes);
  ASSERT_EQ(ours.ok(), parsed && theirs.message_case() != v1::PutRequest::MESSAGE_NOT_SET)
      << ours.status().ToString();
  if (!ours.ok()) return;
  if (theirs.has_start()) {
    ASSERT_EQ(ours->kind, ParsedPut::Kind::kStart);
    EXPECT_EQ(ours->start.SerializeAsString(), theirs.start().SerializeAsString());
    return;
  }
  ASSERT_EQ(ours->kind, ParsedPut::Kind::kData);
  EXPECT_EQ(ours->index, theirs.data().index());
  EXPECT_EQ(ours->offset, theirs.data().offset());
  EXPECT_EQ(ours->size, theirs.data().data().size());
  EXPECT_EQ(Joined(ours->pieces), theirs.data().data());
}

TEST(WireTest, TagsAreThoseOfTheContract) {
  const auto* put = v1::PutRequest::descriptor();
  EXPECT_EQ(put->FindFieldByName("data")->number(), v1::PutRequest::kDataFieldNumber);
  // The bytes of one message of each kind, spelt out: tag = number << 3 | type.
  EXPECT_EQ(DataMessage(1, 2, "xy"), std::string("\x12\x08\x08\x01\x10\x02\x1a\x02xy", 10));
  v1::GetResponse get;
  get.mutable_data()->set_index(1);
  get.mutable_data()->set_offset(2);
  get.mutable_data()->set_data("xy");
  const std::string text = "xy";
  const PinnedBytes bytes({AsBytes(text)}, nullptr);
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(EncodeGetData(1, 2, bytes).Dump(&slices).ok());
  std::string encoded;
  for (const grpc::Slice& slice : slices) {
    encoded.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  EXPECT_EQ(encoded, get.SerializeAsString());
  for (const auto* message : {v1::PutData::descriptor(), v1::GetData::descriptor()}) {
    ASSERT_EQ(message->field_count(), 3);
    EXPECT_EQ(message->FindFieldByName("index")->number(), 1);
    EXPECT_EQ(message->FindFieldByName("offset")->number(), 2);
    EXPECT_EQ(message->FindFieldByName("data")->number(), 3);
  }
}

TEST(WireTest, ReadsDataHoweverItIsCut) {
  const std::string bytes = DataMessage(300, uint64_t{1} << 40, std::string(200, 'd'));
  for (size_t first = 0; first <= bytes.size(); ++first) {
    ExpectAsProtobuf(bytes, {first});
    for (size_t second = first; second <= bytes.size(); second += 17) {
      ExpectAsProtobuf(bytes, {first, second});
    }
  }
}

TEST(WireTest, ReadsPayloadWithoutCopyingIt) {
  const std::string bytes = DataMessage(1, 0, std::string(100000, 'd'));
  ASSERT_OK_AND_ASSIGN(const ParsedPut parsed, ParsePut(Sliced(bytes, {50000})));
  ASSERT_EQ(parsed.pieces.size(), 2u);
  EXPECT_GE(parsed.pieces[0].data(), parsed.received.slices()[0].begin());
  EXPECT_LT(parsed.pieces[0].data(), parsed.received.slices()[0].end());
}

TEST(WireTest, EveryPrefixOfAMessageIsReadAsProtobufReadsIt) {
  for (const std::string& bytes :
       {DataMessage(300, 70000, "payload"), std::string("\x0a\x04\x12\x02zz", 6),
        std::string("\x12\x00", 2), std::string()}) {
    for (size_t size = 0; size <= bytes.size(); ++size) {
      ExpectAsProtobuf(bytes.substr(0, size), {size / 2});
    }
  }
}

TEST(WireTest, RefusesTagsAndLengthsThatProtobufFindsTooLong) {
  const std::string body("\x08\x01", 2);
  for (const std::string& unknown :
       {std::string("\x90\x91\x80\x80\x80\x00\x07", 7),  // a tag of six bytes
        std::string("\x22\x80\x80\x80\x80\x80\x00", 7),  // a length of six
        std::string("\x1a\x80\x80\x80\x80\x80\x00", 7),  // that of the payload
        std::string("\x90\x91\x80\x80\x00\x07", 6)}) {   // five: good
    const std::string inner = body + unknown;
    ExpectAsProtobuf("\x12" + std::string(1, static_cast<char>(inner.size())) + inner, {});
  }
  ExpectAsProtobuf(std::string("\x12\x82\x80\x80\x80\x80\x00", 7) + body, {});
  ExpectAsProtobuf(std::string("\x92\x80\x80\x80\x80\x00\x02", 7) + body, {});
}

TEST(WireTest, AgreesWithProtobufOnDamagedMessages) {
  v1::PutRequest start;
  start.mutable_start()->mutable_space()->set_name("s");
  start.mutable_start()->add_parts()->set_key("k");
  const std::string seeds[] = {DataMessage(300, uint64_t{1} << 50, "some payload of a part"),
                               start.SerializeAsString(),
                               start.SerializeAsString() + DataMessage(1, 2, "x"),
                               DataMessage(1, 2, "x") + DataMessage(3, 4, "y")};
  std::mt19937_64 random(20240601);
  for (int round = 0; round < 200000; ++round) {
    std::string bytes = seeds[random() % 4];
    for (uint64_t change = random() % 4; change > 0 && !bytes.empty(); --change) {
      switch (random() % 3) {
        case 0:
          bytes[random() % bytes.size()] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(random() % bytes.size(), 1);
          break;
        default:
          bytes.insert(random() % bytes.size(), 1, static_cast<char>(random()));
      }
    }
    const size_t cut = bytes.empty() ? 0 : random() % bytes.size();
    ExpectAsProtobuf(bytes, {cut});
    if (HasFatalFailure() || HasNonfatalFailure()) {
      FAIL() << "round " << round << ": " << ::testing::PrintToString(bytes);
    }
  }
}

TEST(WireTest, SaysWhatIsMissing) {
  EXPECT_THAT(ParsePut(Sliced("", {})),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("start or data")));
  EXPECT_THAT(ParsePut(Sliced("\xff", {})),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a PutRequest")));
}

TEST(WireTest, EncodedBytesStayPinnedWhileTheMessageLives) {
  auto owner = std::make_shared<std::string>("payload");
  const std::weak_ptr<std::string> watch = owner;
  std::optional<grpc::ByteBuffer> message;
  {
    const ByteView bytes = AsBytes(*owner);
    const PinnedBytes pinned({bytes.first(3), bytes.subspan(3)}, std::move(owner));
    message = EncodeGetData(0, 0, pinned);
  }
  v1::GetResponse decoded;
  ASSERT_TRUE(DecodeMessage(*message, decoded));
  EXPECT_EQ(decoded.data().data(), "payload");
  EXPECT_FALSE(watch.expired());
  message.reset();
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace mnemo
