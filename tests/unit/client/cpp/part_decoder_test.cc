#include "client/cpp/part_decoder.h"

#include <map>
#include <string>
#include <vector>

#include "tests/support/encoded_part.h"
#include "tests/support/status_matchers.h"

namespace mnemo::client {
namespace {

using ::mnemo::testing::EncodedSample;
using ::mnemo::testing::MakeEncodedSample;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PartDecoderTest : public ::testing::Test {
 protected:
  explicit PartDecoderTest(StoredForm form = StoredForm::kRotated4)
      : sample_(MakeEncodedSample(form)), memory_(sample_.exact.size()) {
    part_.bytes.assign(sample_.value.begin(), sample_.value.end());
    part_.digest = DigestOf(part_.bytes);
    part_.put_digest = DigestOf(AsBytes(sample_.exact));
    read_.size = sample_.exact.size();
  }

  void Know(const SpaceRef& space = "s") {
    ASSERT_OK(
        cache_.Add(space, sample_.calibration->id(), AsBytes(sample_.calibration->Serialize())));
  }
  std::set<uint32_t> Decode(const CalibrationFailures& failures = {}) {
    const Destination to{.memory = memory_, .part_offset = part_offset_};
    PartDecoder decoder(cache_, {.space = "s",
                                 .destinations = std::span(&to, 1),
                                 .verify = verify_,
                                 .on_data = [this](size_t, uint64_t offset, uint64_t size) {
                                   landed_[offset] = size;
                                 }});
    return decoder.Decode(0, part_, failures, read_);
  }
  // As the daemon decodes it.
  std::string Decoded() const {
    auto set = std::make_shared<CalibrationSet>();
    set->Add(sample_.calibration);
    const CodecSet codecs;
    SectionDecoder decoder(codecs, set);
    const EnvelopeExcerpt excerpt = *EnvelopeExcerpt::Parse(AsBytes(sample_.value), {});
    std::string all;
    for (size_t i = 0; i < excerpt.sections().size(); ++i) {
      std::vector<uint8_t> section(excerpt.sections()[i].exact_bytes);
      EXPECT_OK(excerpt.Decode(i, decoder, section));
      all += AsText(section);
    }
    return all;
  }

  const EncodedSample sample_;
  CalibrationCache cache_;
  EncodedPart part_;
  PartRead read_;
  std::vector<uint8_t> memory_;
  uint64_t part_offset_ = 0;
  bool verify_ = true;
  std::map<uint64_t, uint64_t> landed_;
};

TEST_F(PartDecoderTest, GivesWhatTheDaemonsDecodingGives) {
  Know();
  EXPECT_THAT(Decode(), IsEmpty());
  ASSERT_OK(read_.status);
  EXPECT_EQ(AsText(memory_), Decoded());
  EXPECT_EQ(read_.bytes, memory_.size());
  EXPECT_EQ(read_.bytes_received, sample_.value.size());
  EXPECT_EQ(read_.digest, DigestOf(memory_));
  EXPECT_EQ(landed_.size(), 4u);
}

TEST_F(PartDecoderTest, WaitsForACalibrationAndSaysWhichItMisses) {
  // That of another space is none of this one's.
  Know("other");
  EXPECT_THAT(Decode(), ElementsAre(sample_.calibration->id()));
  EXPECT_THAT(landed_, IsEmpty());
  EXPECT_OK(read_.status);
  EXPECT_THAT(Decode({{sample_.calibration->id(), absl::NotFoundError("no such calibration")}}),
              IsEmpty());
  EXPECT_THAT(read_.status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("no such")));
  EXPECT_THAT(landed_, IsEmpty());
}

TEST_F(PartDecoderTest, WhatIsNoCalibrationIsNotKept) {
  EXPECT_THAT(cache_.Add("s", 5, AsBytes("nothing")), StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(
      cache_.Add("s", sample_.calibration->id() + 1, AsBytes(sample_.calibration->Serialize())),
      StatusIs(absl::StatusCode::kInternal));
  EXPECT_EQ(cache_.Find("s", sample_.calibration->id() + 1), nullptr);
}

TEST_F(PartDecoderTest, DamageIsDataLoss) {
  Know();
  verify_ = false;  // so that the sections' own checksums are met
  const std::vector<uint8_t> good = part_.bytes;
  for (size_t at = 0; at < good.size(); at += 7) {
    part_.bytes = good;
    part_.bytes[at] ^= 0x10;
    read_ = {.size = sample_.exact.size()};
    EXPECT_THAT(Decode(), IsEmpty());
    ASSERT_THAT(read_.status, StatusIs(absl::StatusCode::kDataLoss)) << at;
  }
  part_.bytes = good;
  part_.bytes.pop_back();
  read_ = {.size = sample_.exact.size()};
  Decode();
  EXPECT_THAT(read_.status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("cut short")));
}

TEST_F(PartDecoderTest, BytesThatDifferFromTheirDigestAreNotDecoded) {
  Know();
  part_.digest.low ^= 1;
  Decode();
  EXPECT_THAT(read_.status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("on arrival")));
  EXPECT_THAT(landed_, IsEmpty());
}

TEST_F(PartDecoderTest, AnotherPartIsDataLoss) {
  Know();
  part_.put_digest.high ^= 1;
  Decode();
  EXPECT_THAT(read_.status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another part")));
  part_.put_digest.high ^= 1;
  read_ = {.size = sample_.exact.size() - 1};
  Decode();
  EXPECT_THAT(read_.status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another part")));
}

TEST_F(PartDecoderTest, NothingIsWrittenWhereTheDestinationIsTooSmall) {
  Know();
  memory_ = std::vector<uint8_t>(sample_.exact.size() - 1, 7);
  Decode();
  EXPECT_THAT(read_.status, StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("destinations[0]")));
  EXPECT_THAT(memory_, ::testing::Each(7));
  memory_ = std::vector<uint8_t>(sample_.exact.size());
  part_offset_ = 1;
  Decode();
  EXPECT_THAT(read_.status, StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("destinations[0]")));
}

TEST_F(PartDecoderTest, ALayerGoesIntoABufferForThatLayer) {
  Know();
  part_.runs = {{.first = 2, .count = 2}};
  const auto owner = std::make_shared<const std::string>(sample_.value);
  const PinnedBytes value({AsBytes(*owner)}, owner);
  const std::string excerpt = ExcerptOf(*Envelope::Parse(value), value, part_.runs)->ToString();
  part_.bytes.assign(excerpt.begin(), excerpt.end());
  part_.digest = DigestOf(part_.bytes);
  const size_t half = sample_.exact.size() / 2;
  memory_ = std::vector<uint8_t>(half);
  part_offset_ = half;
  EXPECT_THAT(Decode(), IsEmpty());
  ASSERT_OK(read_.status);
  EXPECT_EQ(AsText(memory_), Decoded().substr(half));
  EXPECT_EQ(read_.bytes, half);
  EXPECT_EQ(read_.digest, Digest()) << "a layer of what lost something has none";
}

class LosslessPartTest : public PartDecoderTest {
 protected:
  LosslessPartTest() : PartDecoderTest(StoredForm::kLossless) {}
};

TEST_F(LosslessPartTest, ComesBackAsItWasPut) {
  EXPECT_THAT(Decode(), IsEmpty());
  ASSERT_OK(read_.status);
  EXPECT_EQ(AsText(memory_), sample_.exact);
  EXPECT_EQ(read_.digest, part_.put_digest);
}

}  // namespace
}  // namespace mnemo::client
