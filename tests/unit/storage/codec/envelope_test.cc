#include "storage/codec/envelope.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <random>

#include "storage/block/block_key.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tensors.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

StoredKey KeyNamed(std::string_view name) {
  return PartKey{.scope = {1, 2}, .key = *BlockKey::From(name), .shard = 3}.Stored();
}

// Compressible, but not trivially: bf16-like values, whose high bytes repeat.
std::string Payload(size_t size, uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>(i % 2 ? 0x3c + random() % 4 : random());
  }
  return bytes;
}

absl::Status VerifyAll(const Envelope& envelope, const PinnedBytes& value) {
  const CodecSet codecs;
  SectionDecoder decoder(codecs);
  return envelope.VerifyAll(value, decoder);
}

absl::StatusOr<std::string> TranscodeTo(const StoredKey& key, const PinnedBytes& value,
                                        const EncodingTarget& target) {
  const CodecSet codecs;
  SectionDecoder decoder(codecs);
  return Transcode(key.bytes(), value, decoder, target);
}

// A value in pieces of odd sizes, as an arena gives it.
PinnedBytes InPieces(std::string value, size_t piece = 1001) {
  auto owner = std::make_shared<const std::string>(std::move(value));
  std::vector<ByteView> pieces;
  for (ByteView rest = AsBytes(*owner); !rest.empty();) {
    const size_t size = std::min(piece, rest.size());
    pieces.push_back(rest.first(size));
    rest = rest.subspan(size);
  }
  return PinnedBytes(std::move(pieces), owner);
}

std::string Build(const StoredKey& key, const std::string& payload,
                  const std::vector<uint64_t>& sections, size_t message = 777) {
  auto builder = EnvelopeBuilder::Create(key.bytes(), sections, 2);
  EXPECT_OK(builder);
  for (size_t at = 0; at < payload.size(); at += message) {
    EXPECT_OK(
        builder->Update(AsBytes(payload).subspan(at, std::min(message, payload.size() - at))));
  }
  const auto header = builder->Header();
  EXPECT_OK(header);
  EXPECT_EQ(header->size(), builder->header_bytes());
  return *header + payload;
}

std::string DecodeAll(const Envelope& envelope, const PinnedBytes& value, const CodecSet& codecs) {
  SectionDecoder decoder(codecs);
  std::string payload;
  for (uint32_t i = 0; i < envelope.section_count(); ++i) {
    std::string section(envelope.sections()[i].exact_bytes, '\0');
    EXPECT_OK(envelope.DecodeSection(i, value, decoder,
                                     {reinterpret_cast<uint8_t*>(section.data()), section.size()}));
    payload += section;
  }
  return payload;
}

// Two small tensors, as sections of a part.
std::vector<TensorShape> TwoTensors() {
  const TensorShape keys = {.tokens = 6, .heads = 2, .dimension = 16, .exact_tokens = 4};
  TensorShape values = keys;
  values.role = TensorRole::kValues;
  return {keys, values};
}

std::string TensorPayload() {
  std::string payload;
  for (const TensorShape& tensor : TwoTensors()) {
    payload += AsText(::mnemo::testing::NormalTensor(tensor, payload.size() + 1));
  }
  return payload;
}

std::string RawTensors(const StoredKey& key, const std::string& payload = TensorPayload()) {
  return Build(key, payload, {payload.size() / 2, payload.size() / 2});
}

EncodingTarget LossyTarget(StoredForm form) { return {.form = form, .tensors = TwoTensors()}; }

std::string LossyValue(const StoredKey& key) {
  return TranscodeTo(key, InPieces(RawTensors(key)), LossyTarget(StoredForm::kRotated4)).value();
}

const std::vector<uint64_t> kSections = {1, 3000, 20'000, 999, 6'000};
constexpr uint64_t kPayloadSize = 30'000;

TEST(EnvelopeTest, GivesBackEverySectionOfAPayloadThatCameInAnyMessages) {
  const CodecSet codecs;
  const std::string payload = Payload(kPayloadSize);
  const StoredKey key = KeyNamed("k");
  std::string first;
  for (const size_t message : {1u, 7u, 999u, 5000u, 100'000u}) {
    const std::string value = Build(key, payload, kSections, message);
    if (first.empty()) first = value;
    EXPECT_EQ(value, first) << message;
    const PinnedBytes bytes = InPieces(value);
    ASSERT_OK_AND_ASSIGN(const Envelope envelope, Envelope::Parse(bytes));
    EXPECT_TRUE(envelope.raw());
    EXPECT_TRUE(envelope.Matches(key.bytes()));
    EXPECT_EQ(envelope.payload_bytes(), kPayloadSize);
    EXPECT_EQ(envelope.stored_bytes(), value.size());
    EXPECT_EQ(envelope.digest(), DigestOf(AsBytes(payload)));
    EXPECT_EQ(envelope.ExactOffset(2), 3001u);
    EXPECT_EQ(envelope.ExactOffset(5), kPayloadSize);
    EXPECT_EQ(DecodeAll(envelope, bytes, codecs), payload);
    EXPECT_OK(VerifyAll(envelope, bytes));
  }
}

TEST(EnvelopeTest, ASectionIsVerifiedWithoutTheRest) {
  const std::string payload = Payload(kPayloadSize);
  std::string value = Build(KeyNamed("k"), payload, kSections);
  ASSERT_OK_AND_ASSIGN(const Envelope envelope, Envelope::Parse(AsBytes(value)));
  value[envelope.sections()[2].offset + 500] ^= 1;
  const PinnedBytes bytes = InPieces(value);
  for (uint32_t i = 0; i < envelope.section_count(); ++i) {
    if (i == 2) {
      EXPECT_THAT(envelope.VerifySection(i, bytes),
                  StatusIs(absl::StatusCode::kDataLoss, HasSubstr("section 2")));
    } else {
      EXPECT_OK(envelope.VerifySection(i, bytes));
    }
  }
  EXPECT_THAT(VerifyAll(envelope, bytes), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(EnvelopeTest, BytesOfAnotherKeyAreNoAnswer) {
  const std::string payload = Payload(kPayloadSize);
  const std::string mine = Build(KeyNamed("mine"), payload, kSections);
  const std::string other = Build(KeyNamed("other"), payload, kSections);
  ASSERT_OK_AND_ASSIGN(const Envelope envelope, Envelope::Parse(AsBytes(other)));
  EXPECT_FALSE(envelope.Matches(KeyNamed("mine").bytes()));
  // A header of one key before the payload of another fails by its checksums,
  // though the payloads differ in nothing but their key.
  ASSERT_OK_AND_ASSIGN(const Envelope own, Envelope::Parse(AsBytes(mine)));
  EXPECT_NE(own.sections()[0].checksum, envelope.sections()[0].checksum);
  EXPECT_THAT(TranscodeTo(KeyNamed("mine"), InPieces(other), {}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another key")));
}

TEST(EnvelopeTest, EveryFlippedBitIsFound) {
  const std::string payload = Payload(600);
  const StoredKey key = KeyNamed("k");
  const std::vector<uint64_t> sections = {100, 500};
  const std::string raw = Build(key, payload, sections);
  for (std::string value : {raw, *TranscodeTo(key, InPieces(raw), {}), LossyValue(KeyNamed("t"))}) {
    for (size_t bit = 0; bit < value.size() * 8; ++bit) {
      value[bit / 8] ^= static_cast<char>(1 << bit % 8);
      const PinnedBytes bytes = InPieces(value);
      const auto envelope = Envelope::Parse(bytes);
      if (envelope.ok()) {
        ASSERT_THAT(VerifyAll(*envelope, bytes), StatusIs(absl::StatusCode::kDataLoss)) << bit;
      } else {
        ASSERT_THAT(envelope, StatusIs(absl::StatusCode::kDataLoss)) << bit;
      }
      value[bit / 8] ^= static_cast<char>(1 << bit % 8);
    }
  }
}

TEST(EnvelopeTest, EveryCutIsFound) {
  const std::string value = Build(KeyNamed("k"), Payload(600), {100, 500});
  for (size_t size = 0; size < value.size(); ++size) {
    EXPECT_THAT(Envelope::Parse(InPieces(value.substr(0, size))),
                StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(Envelope::Parse(AsBytes(value).first(size)), StatusIs(absl::StatusCode::kDataLoss));
  }
  EXPECT_THAT(Envelope::Parse(AsBytes(value + "x")), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(EnvelopeTest, TheHeaderAloneIsEnoughToFindASection) {
  const std::string value = Build(KeyNamed("k"), Payload(kPayloadSize), kSections);
  const uint64_t header = EnvelopeHeaderSize(5);
  ASSERT_OK_AND_ASSIGN(const Envelope envelope,
                       Envelope::ParseHeader(AsBytes(value).first(header), value.size()));
  EXPECT_EQ(envelope.sections()[1].offset, header + 1);
  EXPECT_THAT(Envelope::ParseHeader(AsBytes(value).first(header - 1), value.size()),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST(EnvelopeTest, TranscodingKeepsDigestSectionsAndBytes) {
  const CodecSet codecs;
  const StoredKey key = KeyNamed("k");
  const std::string payload = Payload(kPayloadSize);
  const std::string raw = Build(key, payload, kSections);
  ASSERT_OK_AND_ASSIGN(const std::string encoded, TranscodeTo(key, InPieces(raw), {}));
  EXPECT_LT(encoded.size(), raw.size() * 3 / 4);
  const PinnedBytes bytes = InPieces(encoded);
  ASSERT_OK_AND_ASSIGN(const Envelope envelope, Envelope::Parse(bytes));
  EXPECT_FALSE(envelope.raw());
  EXPECT_TRUE(envelope.Matches(key.bytes()));
  EXPECT_EQ(envelope.digest(), DigestOf(AsBytes(payload)));
  EXPECT_EQ(envelope.sections()[0].codec, 0);  // one byte gains nothing
  EXPECT_EQ(envelope.sections()[2].codec, 1);
  EXPECT_EQ(DecodeAll(envelope, bytes, codecs), payload);
  ASSERT_OK_AND_ASSIGN(const std::string back, TranscodeTo(key, bytes, {.form = StoredForm::kRaw}));
  EXPECT_EQ(back, raw);
}

TEST(EnvelopeTest, ALossyPartSaysWhatWasLostAndKeepsItsName) {
  const StoredKey key = KeyNamed("t");
  const std::string payload = TensorPayload();
  const std::string raw = RawTensors(key);
  const PinnedBytes bytes = InPieces(LossyValue(key));
  EXPECT_LT(bytes.size(), raw.size());
  ASSERT_OK_AND_ASSIGN(const Envelope envelope, Envelope::Parse(bytes));
  EXPECT_TRUE(envelope.lossy());
  EXPECT_FALSE(envelope.raw());
  EXPECT_EQ(envelope.lowest_bits(), 4u);
  EXPECT_EQ(envelope.digest(), DigestOf(AsBytes(payload)));
  EXPECT_EQ(envelope.payload_bytes(), payload.size());
  EXPECT_NEAR(envelope.bits_per_value(),
              8.0 * static_cast<double>(bytes.size() - envelope.header_bytes()) /
                  (static_cast<double>(payload.size()) / 2),
              1e-9);
  EXPECT_OK(VerifyAll(envelope, bytes));

  // What it says of its error is what decoding gives.
  const std::string decoded = DecodeAll(envelope, bytes, CodecSet());
  EXPECT_NE(decoded, payload);
  double squares = 0;
  double errors = 0;
  const TensorShape shape = TwoTensors()[0];
  for (size_t section = 0; section < 2; ++section) {
    const size_t at = section * shape.bytes();
    const ByteView was = AsBytes(payload).subspan(at, shape.bytes());
    const ByteView is = AsBytes(decoded).subspan(at, shape.bytes());
    EXPECT_EQ(AsText(was.first(shape.RowOffset(0, 4, 0))),
              AsText(is.first(shape.RowOffset(0, 4, 0))));  // exact tokens
    for (uint32_t token = 4; token < 6; ++token) {
      for (uint32_t head = 0; head < 2; ++head) {
        const auto x = ::mnemo::testing::RowAt(shape, was, 0, token, head);
        const auto y = ::mnemo::testing::RowAt(shape, is, 0, token, head);
        for (size_t i = 0; i < x.size(); ++i) {
          squares += x[i] * x[i];
          errors += (x[i] - y[i]) * (x[i] - y[i]);
        }
      }
    }
  }
  EXPECT_NEAR(envelope.error(), std::sqrt(errors / squares), 1e-4);
  EXPECT_GT(envelope.error(), 0.01F);
}

TEST(EnvelopeTest, WhatIsLostIsNotLostTwice) {
  const StoredKey key = KeyNamed("t");
  const std::string lossy = LossyValue(key);
  for (const StoredForm form : {StoredForm::kRaw, StoredForm::kLossless, StoredForm::kRotated2}) {
    EXPECT_THAT(TranscodeTo(key, InPieces(lossy), LossyTarget(form)),
                StatusIs(absl::StatusCode::kFailedPrecondition));
  }
}

TEST(EnvelopeTest, ASectionThatACodecRefusesStaysExact) {
  const StoredKey key = KeyNamed("t");
  std::string payload = TensorPayload();
  const TensorShape shape = TwoTensors()[0];
  // bf16 of infinity, behind the exact tokens of the first section.
  payload[shape.RowOffset(0, 5, 1)] = static_cast<char>(0x80);
  payload[shape.RowOffset(0, 5, 1) + 1] = 0x7f;
  ASSERT_OK_AND_ASSIGN(const std::string value, TranscodeTo(key, InPieces(RawTensors(key, payload)),
                                                            LossyTarget(StoredForm::kRotated4)));
  ASSERT_OK_AND_ASSIGN(const Envelope envelope, Envelope::Parse(AsBytes(value)));
  EXPECT_TRUE(envelope.lossy());
  EXPECT_LE(envelope.sections()[0].codec, static_cast<uint8_t>(CodecId::kLossless));
  EXPECT_EQ(envelope.sections()[1].codec, static_cast<uint8_t>(CodecId::kRotated));
  const std::string decoded = DecodeAll(envelope, InPieces(value), CodecSet());
  EXPECT_EQ(decoded.substr(0, shape.bytes()), payload.substr(0, shape.bytes()));
}

TEST(EnvelopeTest, TensorsThatAreNotThoseOfTheSectionsAreRefused) {
  const StoredKey key = KeyNamed("t");
  EncodingTarget fewer = LossyTarget(StoredForm::kRotated4);
  fewer.tensors.pop_back();
  EncodingTarget larger = LossyTarget(StoredForm::kRotated4);
  larger.tensors[1].tokens = 7;
  for (const EncodingTarget& target : {fewer, larger}) {
    EXPECT_THAT(TranscodeTo(key, InPieces(RawTensors(key)), target),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST(EnvelopeTest, ACodecThatThisBuildDoesNotKnowIsDamageOfThatSection) {
  const StoredKey key = KeyNamed("k");
  std::string value = Build(key, Payload(600), {600});
  const size_t codec_at = 64 + 24;
  value[codec_at] = 9;
  EXPECT_THAT(Envelope::Parse(AsBytes(value)), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(CodecSet().Find(9),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("codec 9 is not known")));
}

TEST(EnvelopeBuilderTest, RefusesSectionsOutsideTheirRange) {
  const StoredKey key = KeyNamed("k");
  const auto create = [&](const std::vector<uint64_t>& sections, uint32_t element_bytes = 1) {
    return EnvelopeBuilder::Create(key.bytes(), sections, element_bytes).status();
  };
  const auto refused = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(create({}), refused);
  EXPECT_THAT(create({0}), refused);
  EXPECT_THAT(create({10, kMaxEnvelopePayload - 9}), refused);
  EXPECT_THAT(create({~uint64_t{0}, 2}), refused);
  EXPECT_THAT(create(std::vector<uint64_t>(kMaxEnvelopeSections + 1, 1)), refused);
  EXPECT_THAT(create({10}, 3), refused);
  EXPECT_OK(create(std::vector<uint64_t>(kMaxEnvelopeSections, 1)));
}

TEST(EnvelopeBuilderTest, RefusesMoreOrFewerBytesThanAnnounced) {
  auto builder = *EnvelopeBuilder::Create(KeyNamed("k").bytes(), std::vector<uint64_t>{10, 10}, 1);
  ASSERT_OK(builder.Update(AsBytes(std::string(15, 'x'))));
  EXPECT_THAT(builder.Header(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("15 bytes of the 20")));
  EXPECT_THAT(builder.Update(AsBytes(std::string(6, 'x'))),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("20 bytes announced")));
  // The refused message left no trace.
  ASSERT_OK(builder.Update(AsBytes(std::string(5, 'x'))));
  ASSERT_OK_AND_ASSIGN(const std::string header, builder.Header());
  EXPECT_OK(Envelope::Parse(AsBytes(header + std::string(20, 'x'))));
}

// The format itself: a change of these bytes needs a new version.
TEST(EnvelopeTest, HasTheBytesOfItsFormat) {
  const std::string value = Build(KeyNamed("golden"), "payload!", {3, 5});
  std::string hex;
  for (const char c : value) hex += fmt::format("{:02x}", static_cast<uint8_t>(c));
  EXPECT_EQ(hex,
            "4d4e45560100000002000000000000009ec9f77fdb5c1d6246c5555f4a9ffa4e"
            "4291719a268eab2308000000000000008800000000000000d631cf6084db8b31"
            "80000000000000000300000003000000210a03fe1bcb76820002000000000000"
            "8300000000000000050000000500000096cea5780243b32d0002000000000000"
            "7061796c6f616421");
}

// Header and table of version 2; the sections are those of tensor-section.md.
TEST(EnvelopeTest, HasTheBytesOfItsLossyFormat) {
  const std::string value = LossyValue(KeyNamed("golden"));
  EXPECT_EQ(LoadLittle<uint16_t>(value.data() + 4), 2);
  ASSERT_OK_AND_ASSIGN(const Envelope envelope, Envelope::Parse(AsBytes(value)));
  for (size_t section = 0; section < 2; ++section) {
    const char* const entry = value.data() + 64 + 32 * section;
    EXPECT_EQ(entry[24], 3);  // rotated
    EXPECT_EQ(entry[25], 2);
    EXPECT_EQ(entry[26], 4);  // bits
    EXPECT_EQ(entry[27], 0);
    EXPECT_EQ(std::bit_cast<float>(LoadLittle<uint32_t>(entry + 28)),
              envelope.sections()[section].error);
  }
  EXPECT_EQ(std::bit_cast<float>(LoadLittle<uint32_t>(value.data() + 12)), envelope.error());
}

}  // namespace
}  // namespace mnemo
