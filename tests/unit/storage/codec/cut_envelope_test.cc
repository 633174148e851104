// Envelopes of fewer bits, from which planes were dropped.
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "storage/codec/envelope.h"
#include "tests/support/encoded_part.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::mnemo::testing::EncodedSample;
using ::mnemo::testing::MakeEncodedSample;
using ::mnemo::testing::SampleTensors;
using ::testing::HasSubstr;

PinnedBytes Pinned(const std::string& value) {
  auto owner = std::make_shared<const std::string>(value);
  return PinnedBytes({AsBytes(*owner)}, owner);
}

class CutEnvelopeTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::string> Cut(const EncodedSample& sample, const std::string& value,
                                  uint32_t bits) {
    SectionDecoder decoder(codecs_, SetOf(sample));
    return CutEnvelope(sample.key, Pinned(value), decoder, bits);
  }
  std::string Decoded(const EncodedSample& sample, const std::string& value) {
    SectionDecoder decoder(codecs_, SetOf(sample));
    const Envelope envelope = *Envelope::Parse(AsBytes(value));
    std::string all;
    for (uint32_t i = 0; i < envelope.section_count(); ++i) {
      std::vector<uint8_t> exact(envelope.sections()[i].exact_bytes);
      EXPECT_OK(envelope.DecodeSection(i, Pinned(value), decoder, exact));
      all += AsText(exact);
    }
    return all;
  }
  // Of all sections together, as it is.
  static double ErrorOf(const EncodedSample& sample, const std::string& decoded) {
    EncodingError error;
    size_t at = 0;
    for (const TensorShape& shape : SampleTensors()) {
      error.Add(DifferenceOf(shape, AsBytes(sample.exact).subspan(at, shape.bytes()),
                             AsBytes(decoded).subspan(at, shape.bytes())));
      at += shape.bytes();
    }
    return error.relative();
  }
  static std::shared_ptr<CalibrationSet> SetOf(const EncodedSample& sample) {
    auto set = std::make_shared<CalibrationSet>();
    if (sample.calibration) set->Add(sample.calibration);
    return set;
  }

  const CodecSet codecs_;
};

TEST_F(CutEnvelopeTest, IsWhatEncodingInFewerBitsGives) {
  const EncodedSample eight = MakeEncodedSample(StoredForm::kProgressive8);
  for (const auto& [form, bits] : {std::pair(StoredForm::kProgressive5, 5U),
                                   {StoredForm::kProgressive4, 4U},
                                   {StoredForm::kProgressive3, 3U},
                                   {StoredForm::kProgressive2, 2U}}) {
    ASSERT_OK_AND_ASSIGN(const std::string cut, Cut(eight, eight.value, bits));
    const EncodedSample direct = MakeEncodedSample(form);
    EXPECT_EQ(cut.size(), direct.value.size());
    EXPECT_EQ(Decoded(eight, cut), Decoded(direct, direct.value)) << bits;
    ASSERT_OK_AND_ASSIGN(const Envelope envelope, Envelope::Parse(AsBytes(cut)));
    ASSERT_OK_AND_ASSIGN(const Envelope wanted, Envelope::Parse(AsBytes(direct.value)));
    EXPECT_EQ(envelope.lowest_bits(), bits);
    EXPECT_EQ(envelope.digest(), wanted.digest());
    // What it says of its error is what it is, though what was exact is not here any more.
    EXPECT_NEAR(envelope.error(), ErrorOf(eight, Decoded(eight, cut)), 0.02 * envelope.error());
    for (uint32_t i = 0; i < envelope.section_count(); ++i) {
      EXPECT_NEAR(envelope.sections()[i].error, wanted.sections()[i].error,
                  0.05 * wanted.sections()[i].error);
    }
    // Step by step is the same, but for what is said of the error.
    ASSERT_OK_AND_ASSIGN(const std::string first, Cut(eight, eight.value, 5));
    ASSERT_OK_AND_ASSIGN(const std::string again, Cut(eight, first, bits));
    EXPECT_EQ(Decoded(eight, again), Decoded(eight, cut));
  }
}

TEST_F(CutEnvelopeTest, LeavesWhatCannotBeCut) {
  for (const StoredForm form : {StoredForm::kRotated4, StoredForm::kKivi4, StoredForm::kLossless,
                                StoredForm::kProgressive2}) {
    const EncodedSample sample = MakeEncodedSample(form);
    ASSERT_OK_AND_ASSIGN(const std::string cut, Cut(sample, sample.value, 2));
    EXPECT_EQ(Decoded(sample, cut), Decoded(sample, sample.value));
    EXPECT_EQ(cut.size(), sample.value.size());
    EXPECT_NEAR(Envelope::Parse(AsBytes(cut))->error(),
                Envelope::Parse(AsBytes(sample.value))->error(), 1e-3);
  }
}

TEST_F(CutEnvelopeTest, DamageAndOtherKeysAreFound) {
  EncodedSample sample = MakeEncodedSample(StoredForm::kProgressive8);
  std::string damaged = sample.value;
  damaged[damaged.size() - 9] ^= 1;
  EXPECT_THAT(Cut(sample, damaged, 4),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("checksum")));
  EXPECT_THAT(Cut(sample, sample.value, 7), StatusIs(absl::StatusCode::kInvalidArgument));
  sample.key += "x";
  EXPECT_THAT(Cut(sample, sample.value, 4),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another key")));
}

}  // namespace
}  // namespace mnemo
