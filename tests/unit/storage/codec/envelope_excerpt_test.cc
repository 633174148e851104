#include "storage/codec/envelope_excerpt.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/encoded_part.h"
#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

using ::mnemo::testing::EncodedSample;
using ::mnemo::testing::MakeEncodedSample;
using ::testing::HasSubstr;

constexpr StoredForm kForms[] = {StoredForm::kLossless, StoredForm::kKivi4, StoredForm::kRotated4,
                                 StoredForm::kProgressive8};

PinnedBytes Pinned(const std::string& value) {
  auto owner = std::make_shared<const std::string>(value);
  // In odd pieces, as an arena gives it.
  std::vector<ByteView> pieces;
  for (ByteView rest = AsBytes(*owner); !rest.empty(); rest = rest.subspan(pieces.back().size())) {
    pieces.push_back(rest.first(std::min<size_t>(701, rest.size())));
  }
  return PinnedBytes(std::move(pieces), owner);
}

std::shared_ptr<CalibrationSet> SetOf(const EncodedSample& sample) {
  auto set = std::make_shared<CalibrationSet>();
  if (sample.calibration) set->Add(sample.calibration);
  return set;
}

// What decoding gives of each section of the whole value.
std::vector<std::string> DecodeValue(const EncodedSample& sample) {
  const CodecSet codecs;
  SectionDecoder decoder(codecs, SetOf(sample));
  const PinnedBytes value = Pinned(sample.value);
  const Envelope envelope = *Envelope::Parse(value);
  std::vector<std::string> sections;
  for (uint32_t i = 0; i < envelope.section_count(); ++i) {
    std::vector<uint8_t> exact(envelope.sections()[i].exact_bytes);
    EXPECT_OK(envelope.DecodeSection(i, value, decoder, exact));
    sections.emplace_back(AsText(exact));
  }
  return sections;
}

std::string ExcerptText(const EncodedSample& sample, const std::vector<SectionRun>& runs) {
  const PinnedBytes value = Pinned(sample.value);
  const auto excerpt = ExcerptOf(*Envelope::Parse(value), value, runs);
  EXPECT_OK(excerpt);
  return excerpt->ToString();
}

TEST(EnvelopeExcerptTest, SectionsDecodeAsInTheWholeEnvelope) {
  for (const StoredForm form : kForms) {
    const EncodedSample sample = MakeEncodedSample(form);
    const std::vector<std::string> whole = DecodeValue(sample);
    const std::vector<std::vector<SectionRun>> all_runs = {
        {}, {{.first = 2, .count = 2}}, {{.first = 0, .count = 1}, {.first = 3, .count = 1}}};
    for (const std::vector<SectionRun>& runs : all_runs) {
      const std::string bytes = ExcerptText(sample, runs);
      ASSERT_OK_AND_ASSIGN(const EnvelopeExcerpt excerpt,
                           EnvelopeExcerpt::Parse(AsBytes(bytes), runs));
      EXPECT_EQ(excerpt.whole(), runs.empty());
      EXPECT_EQ(excerpt.sections().size(), runs.empty() ? 4u : 2u);
      EXPECT_OK(excerpt.CheckCalibrations(*SetOf(sample)));
      const CodecSet codecs;
      SectionDecoder decoder(codecs, SetOf(sample));
      for (size_t i = 0; i < excerpt.sections().size(); ++i) {
        const EnvelopeExcerpt::Section& section = excerpt.sections()[i];
        EXPECT_EQ(section.exact_offset, section.number * uint64_t{section.exact_bytes});
        std::vector<uint8_t> exact(section.exact_bytes);
        ASSERT_OK(excerpt.Decode(i, decoder, exact));
        EXPECT_EQ(AsText(exact), whole[section.number]) << FormName(static_cast<uint8_t>(form));
      }
    }
    EXPECT_EQ(ExcerptText(sample, {}), sample.value);
    EXPECT_LT(ExcerptText(sample, {{.first = 1, .count = 1}}).size(), sample.value.size() / 2);
  }
}

TEST(EnvelopeExcerptTest, RunsMustComeInOrderAndHaveSectionsOfTheEnvelope) {
  const EncodedSample sample = MakeEncodedSample(StoredForm::kRotated4);
  const std::vector<std::vector<SectionRun>> wrong = {
      {{.first = 4, .count = 1}},
      {{.first = 1, .count = 4}},
      {{.first = 0, .count = 0}},
      {{.first = 1, .count = 0xffffffff}},
      {{.first = 2, .count = 1}, {.first = 0, .count = 1}},
      {{.first = 0, .count = 2}, {.first = 1, .count = 1}}};
  const PinnedBytes value = Pinned(sample.value);
  const Envelope envelope = *Envelope::Parse(value);
  for (const std::vector<SectionRun>& runs : wrong) {
    EXPECT_THAT(ExcerptOf(envelope, value, runs),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("runs[")));
    EXPECT_THAT(EnvelopeExcerpt::Parse(AsBytes(sample.value), runs),
                StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(EnvelopeExcerptTest, EveryCutAndEveryByteMoreIsFound) {
  const EncodedSample sample = MakeEncodedSample(StoredForm::kRotated4);
  const std::vector<SectionRun> runs = {{.first = 1, .count = 2}};
  for (const std::vector<SectionRun>& of : {std::vector<SectionRun>(), runs}) {
    const std::string bytes = ExcerptText(sample, of);
    for (size_t size = 0; size < bytes.size(); ++size) {
      ASSERT_THAT(EnvelopeExcerpt::Parse(AsBytes(bytes).first(size), of),
                  StatusIs(absl::StatusCode::kDataLoss));
    }
    EXPECT_THAT(EnvelopeExcerpt::Parse(AsBytes(bytes + "x"), of),
                StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(EnvelopeExcerptTest, EveryFlippedBitIsFound) {
  const EncodedSample sample = MakeEncodedSample(StoredForm::kKivi4);
  const std::vector<SectionRun> runs = {{.first = 2, .count = 1}};
  std::string bytes = ExcerptText(sample, runs);
  const CodecSet codecs;
  SectionDecoder decoder(codecs, SetOf(sample));
  for (size_t bit = 0; bit < bytes.size() * 8; bit += 3) {
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
    const auto excerpt = EnvelopeExcerpt::Parse(AsBytes(bytes), runs);
    absl::Status status = excerpt.status();
    if (status.ok()) {
      std::vector<uint8_t> exact(excerpt->sections()[0].exact_bytes);
      status = excerpt->Decode(0, decoder, exact);
    }
    ASSERT_THAT(status, StatusIs(absl::StatusCode::kDataLoss)) << bit;
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
}

TEST(EnvelopeExcerptTest, CalibrationsThatAreMissingAreNamed) {
  const EncodedSample sample = MakeEncodedSample(StoredForm::kRotated4);
  ASSERT_OK_AND_ASSIGN(const EnvelopeExcerpt excerpt,
                       EnvelopeExcerpt::Parse(AsBytes(sample.value), {}));
  EXPECT_THAT(excerpt.Calibrations(), ::testing::ElementsAre(sample.calibration->id()));
  EXPECT_OK(excerpt.CheckCalibrations(*SetOf(sample)));
  EXPECT_THAT(excerpt.CheckCalibrations(CalibrationSet()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("not here")));
  const EncodedSample none = MakeEncodedSample(StoredForm::kRotated4, /*calibrated=*/false);
  ASSERT_OK_AND_ASSIGN(const EnvelopeExcerpt without,
                       EnvelopeExcerpt::Parse(AsBytes(none.value), {}));
  EXPECT_THAT(without.Calibrations(), ::testing::IsEmpty());
  EXPECT_OK(without.CheckCalibrations(CalibrationSet()));
}

}  // namespace
}  // namespace mnemo
