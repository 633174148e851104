// docs/formats/envelope.md.
#include "storage/codec/envelope.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/codec/tensor_codec.h"

namespace mnemo {
namespace {

constexpr uint32_t kMagic = 0x56454e4d;  // "MNEV"
constexpr uint16_t kExactVersion = 1;
constexpr uint16_t kLossyVersion = 2;  // says what was lost
constexpr size_t kFixedSize = 64;
constexpr size_t kEntrySize = 32;
constexpr size_t kHeaderChecksumAt = 56;
constexpr uint64_t kKeySeed = 0x6d6e656d6f6b6579;     // "mnemokey"
constexpr uint64_t kHeaderSeed = 0x6d6e656d6f686472;  // "mnemohdr"

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(fmt::format("envelope: {}", what));
}

absl::Status WrongChecksum(uint32_t section) {
  return Damaged(fmt::format("checksum of section {}", section));
}

bool IsElementSize(uint32_t bytes) { return bytes == 1 || bytes == 2 || bytes == 4; }

// Of everything in the header but the checksum itself.
uint64_t HeaderChecksum(ByteView header) {
  const uint64_t table = Checksum64(header.subspan(kFixedSize), kHeaderSeed);
  return Checksum64(header.first(kHeaderChecksumAt), table);
}

uint64_t ChecksumOf(const PinnedBytes& bytes, uint64_t seed) {
  if (bytes.pieces().size() == 1) return Checksum64(bytes.pieces()[0], seed);
  StreamingChecksum64 checksum(seed);
  for (const ByteView piece : bytes.pieces()) checksum.Update(piece);
  return checksum.Digest();
}

// Bits of a float, as they are stored.
uint32_t ToBits(float value) { return std::bit_cast<uint32_t>(value); }

std::string SerializeHeader(uint64_t key_checksum, const Digest128& digest, uint64_t payload_bytes,
                            uint64_t stored_bytes, float error,
                            std::span<const EnvelopeSection> sections) {
  const bool lossy = std::any_of(sections.begin(), sections.end(),
                                 [](const EnvelopeSection& s) { return IsTensorCodec(s.codec); });
  std::string out;
  out.reserve(EnvelopeHeaderSize(static_cast<uint32_t>(sections.size())));
  AppendLittle<uint32_t>(out, kMagic);
  AppendLittle<uint16_t>(out, lossy ? kLossyVersion : kExactVersion);
  AppendLittle<uint16_t>(out, 0);
  AppendLittle<uint32_t>(out, static_cast<uint32_t>(sections.size()));
  AppendLittle<uint32_t>(out, ToBits(error));
  AppendLittle<uint64_t>(out, key_checksum);
  AppendLittle<uint64_t>(out, digest.low);
  AppendLittle<uint64_t>(out, digest.high);
  AppendLittle<uint64_t>(out, payload_bytes);
  AppendLittle<uint64_t>(out, stored_bytes);
  AppendLittle<uint64_t>(out, 0);
  for (const EnvelopeSection& section : sections) {
    AppendLittle<uint64_t>(out, section.offset);
    AppendLittle<uint32_t>(out, section.stored_bytes);
    AppendLittle<uint32_t>(out, section.exact_bytes);
    AppendLittle<uint64_t>(out, section.checksum);
    AppendLittle<uint8_t>(out, section.codec);
    AppendLittle<uint8_t>(out, section.element_bytes);
    AppendLittle<uint8_t>(out, section.bits);
    AppendLittle<uint8_t>(out, 0);
    AppendLittle<uint32_t>(out, ToBits(section.error));
  }
  StoreLittle<uint64_t>(out.data() + kHeaderChecksumAt, HeaderChecksum(AsBytes(out)));
  return out;
}

EnvelopeSection ReadSection(ByteReader& reader, bool& reserved_zero) {
  EnvelopeSection section;
  section.offset = reader.Little<uint64_t>();
  section.stored_bytes = reader.Little<uint32_t>();
  section.exact_bytes = reader.Little<uint32_t>();
  section.checksum = reader.Little<uint64_t>();
  section.codec = reader.Little<uint8_t>();
  section.element_bytes = reader.Little<uint8_t>();
  section.bits = reader.Little<uint8_t>();
  reserved_zero &= reader.Little<uint8_t>() == 0;
  section.error = std::bit_cast<float>(reader.Little<uint32_t>());
  return section;
}

// 0 or more, and a number.
bool IsError(float error) { return std::isfinite(error) && !std::signbit(error); }

// Whether what the entry says of its loss makes sense.
bool IsSound(const EnvelopeSection& section) {
  if (IsTensorCodec(section.codec)) {
    return FormOf(static_cast<CodecId>(section.codec), section.bits).has_value() &&
           IsError(section.error);
  }
  return section.bits == 0 && ToBits(section.error) == 0;
}

uint64_t KeyChecksum(std::string_view key) { return Checksum64(AsBytes(key), kKeySeed); }

}  // namespace

absl::StatusOr<Envelope> Envelope::Parse(const PinnedBytes& value) {
  if (value.size() < kFixedSize) return Damaged("shorter than its header");
  const ByteView front = value.pieces()[0];
  uint8_t fixed[kFixedSize];
  value.CopyTo(0, fixed);
  const auto count = LoadLittle<uint32_t>(fixed + 8);
  if (count > kMaxEnvelopeSections || EnvelopeHeaderSize(count) > value.size()) {
    return Damaged(fmt::format("{} sections", count));
  }
  const uint64_t header_size = EnvelopeHeaderSize(count);
  if (front.size() >= header_size) return ParseHeader(front, value.size());
  std::vector<uint8_t> header(header_size);
  value.CopyTo(0, header);
  return ParseHeader(header, value.size());
}

absl::StatusOr<Envelope> Envelope::Parse(ByteView value) {
  return ParseHeader(value, value.size());
}

absl::StatusOr<Envelope> Envelope::ParseHeader(ByteView front, uint64_t value_size) {
  ByteReader reader(front);
  Envelope envelope;
  const auto magic = reader.Little<uint32_t>();
  const auto version = reader.Little<uint16_t>();
  const auto reserved16 = reader.Little<uint16_t>();
  const auto count = reader.Little<uint32_t>();
  envelope.error_ = std::bit_cast<float>(reader.Little<uint32_t>());
  envelope.key_checksum_ = reader.Little<uint64_t>();
  envelope.digest_.low = reader.Little<uint64_t>();
  envelope.digest_.high = reader.Little<uint64_t>();
  envelope.payload_bytes_ = reader.Little<uint64_t>();
  envelope.stored_bytes_ = reader.Little<uint64_t>();
  const auto checksum = reader.Little<uint64_t>();
  if (!reader.ok()) return Damaged("shorter than its header");
  if (magic != kMagic) return Damaged("not an envelope");
  if (version != kExactVersion && version != kLossyVersion) {
    return Damaged(fmt::format("version {}, not {} or {}", version, kExactVersion, kLossyVersion));
  }
  if (count == 0 || count > kMaxEnvelopeSections || reader.remaining() / kEntrySize < count) {
    return Damaged(fmt::format("{} sections", count));
  }
  if (HeaderChecksum(front.first(EnvelopeHeaderSize(count))) != checksum) {
    return Damaged("header checksum");
  }

  // Behind a right checksum only a faulty writer fails what follows; it is
  // checked all the same, since offsets and sizes are about to be believed.
  bool reserved_zero = reserved16 == 0;
  uint64_t offset = EnvelopeHeaderSize(count);
  uint64_t exact = 0;
  envelope.sections_.reserve(count);
  envelope.exact_offsets_.reserve(count + 1);
  for (uint32_t i = 0; i < count; ++i) {
    const EnvelopeSection section = ReadSection(reader, reserved_zero);
    const bool is_raw = section.codec == static_cast<uint8_t>(CodecId::kRaw);
    if (section.offset != offset || section.exact_bytes == 0 || section.stored_bytes == 0 ||
        !IsElementSize(section.element_bytes) || !IsSound(section) ||
        (is_raw && section.stored_bytes != section.exact_bytes)) {
      return Damaged(fmt::format("entry of section {}", i));
    }
    envelope.raw_ &= is_raw;
    envelope.lossy_ |= IsTensorCodec(section.codec);
    envelope.exact_offsets_.push_back(exact);
    offset += section.stored_bytes;
    exact += section.exact_bytes;
    envelope.sections_.push_back(section);
  }
  envelope.exact_offsets_.push_back(exact);
  if (!reserved_zero) return Damaged("reserved bytes are not zero");
  if (envelope.lossy_ != (version == kLossyVersion) || !IsError(envelope.error_) ||
      (!envelope.lossy_ && ToBits(envelope.error_) != 0)) {
    return Damaged("says something else of its loss than its sections");
  }
  if (offset != envelope.stored_bytes_ || offset != value_size ||
      exact != envelope.payload_bytes_ || exact > kMaxEnvelopePayload) {
    return Damaged(fmt::format("sections add up to {} bytes of {}", offset, value_size));
  }
  return envelope;
}

bool Envelope::Matches(std::string_view key) const { return KeyChecksum(key) == key_checksum_; }

absl::Status Envelope::VerifySection(uint32_t i, const PinnedBytes& value) const {
  MNEMO_CHECK(i < section_count() && value.size() == stored_bytes_);
  const EnvelopeSection& section = sections_[i];
  const PinnedBytes stored = value.Slice(section.offset, section.stored_bytes);
  if (ChecksumOf(stored, key_checksum_) == section.checksum) return absl::OkStatus();
  return WrongChecksum(i);
}

absl::Status Envelope::VerifySection(uint32_t i, ByteView stored) const {
  if (Checksum64(stored, key_checksum_) == sections_[i].checksum) return absl::OkStatus();
  return WrongChecksum(i);
}

double Envelope::bits_per_value() const {
  double bits = 0;
  double values = 0;
  for (const EnvelopeSection& section : sections_) {
    bits += 8.0 * section.stored_bytes;
    values += static_cast<double>(section.exact_bytes) / section.element_bytes;
  }
  return values > 0 ? bits / values : 0;
}

uint32_t Envelope::lowest_bits() const {
  uint32_t lowest = 0;
  for (const EnvelopeSection& section : sections_) {
    if (section.bits != 0 && (lowest == 0 || section.bits < lowest)) lowest = section.bits;
  }
  return lowest;
}

absl::Status Envelope::DecodeSection(uint32_t i, const PinnedBytes& value, SectionDecoder& decoder,
                                     MutableByteView decoded) const {
  MNEMO_RETURN_IF_ERROR(VerifySection(i, value));
  const EnvelopeSection& section = sections_[i];
  MNEMO_CHECK(decoded.size() == section.exact_bytes);
  if (section.codec == static_cast<uint8_t>(CodecId::kRaw)) {
    value.CopyTo(section.offset, decoded);
    return absl::OkStatus();
  }
  const PinnedBytes stored = value.Slice(section.offset, section.stored_bytes);
  if (stored.pieces().size() == 1) {
    return decoder.Decode(section.codec, stored.pieces()[0], decoded);
  }
  std::vector<uint8_t> whole(section.stored_bytes);
  stored.CopyTo(0, whole);
  return decoder.Decode(section.codec, whole, decoded);
}

absl::Status Envelope::VerifyAll(const PinnedBytes& value, SectionDecoder& decoder) const {
  StreamingDigest128 digest;
  std::vector<uint8_t> decoded;
  for (uint32_t i = 0; i < section_count(); ++i) {
    decoded.resize(sections_[i].exact_bytes);
    MNEMO_RETURN_IF_ERROR(DecodeSection(i, value, decoder, decoded));
    digest.Update(decoded);
  }
  if (lossy_ || digest.Digest() == digest_) return absl::OkStatus();
  return Damaged("digest of the payload");
}

absl::StatusOr<EnvelopeBuilder> EnvelopeBuilder::Create(std::string_view key,
                                                        std::span<const uint64_t> section_sizes,
                                                        uint32_t element_bytes) {
  if (section_sizes.empty() || section_sizes.size() > kMaxEnvelopeSections) {
    return absl::InvalidArgumentError(fmt::format("section_sizes has {} entries, not 1 to {}",
                                                  section_sizes.size(), kMaxEnvelopeSections));
  }
  if (!IsElementSize(element_bytes)) {
    return absl::InvalidArgumentError(
        fmt::format("element_bytes is {}, not 1, 2 or 4", element_bytes));
  }
  EnvelopeBuilder builder;
  Envelope& envelope = builder.envelope_;
  envelope.key_checksum_ = KeyChecksum(key);
  envelope.sections_.reserve(section_sizes.size());
  uint64_t offset = EnvelopeHeaderSize(static_cast<uint32_t>(section_sizes.size()));
  for (const uint64_t size : section_sizes) {
    // One at a time, so that the sum cannot wrap around.
    if (size == 0 || size > kMaxEnvelopePayload - envelope.payload_bytes_) {
      return absl::InvalidArgumentError(
          fmt::format("section_sizes has a section of {} bytes, not 1 to {} in all", size,
                      kMaxEnvelopePayload));
    }
    envelope.sections_.push_back({.offset = offset,
                                  .stored_bytes = static_cast<uint32_t>(size),
                                  .exact_bytes = static_cast<uint32_t>(size),
                                  .element_bytes = static_cast<uint8_t>(element_bytes)});
    offset += size;
    envelope.payload_bytes_ += size;
  }
  envelope.stored_bytes_ = offset;
  builder.section_checksum_ = StreamingChecksum64(envelope.key_checksum_);
  return builder;
}

absl::Status EnvelopeBuilder::Update(ByteView bytes) {
  if (bytes.size() > payload_bytes() - received_) {
    return absl::InvalidArgumentError(
        fmt::format("payload has more than the {} bytes announced", payload_bytes()));
  }
  digest_.Update(bytes);
  received_ += bytes.size();
  while (!bytes.empty()) {
    EnvelopeSection& section = envelope_.sections_[section_];
    const uint64_t missing = section.exact_bytes - section_received_;
    const ByteView part = bytes.first(std::min<uint64_t>(missing, bytes.size()));
    bytes = bytes.subspan(part.size());
    if (section_received_ == 0 && part.size() == missing) {
      section.checksum = Checksum64(part, envelope_.key_checksum_);
      ++section_;
      continue;
    }
    section_checksum_.Update(part);
    section_received_ += part.size();
    if (part.size() < missing) continue;
    section.checksum = section_checksum_.Digest();
    section_checksum_ = StreamingChecksum64(envelope_.key_checksum_);
    section_received_ = 0;
    ++section_;
  }
  return absl::OkStatus();
}

absl::StatusOr<Digest128> EnvelopeBuilder::Digest() const {
  if (received_ != payload_bytes()) {
    return absl::InvalidArgumentError(
        fmt::format("payload has {} bytes of the {} announced", received_, payload_bytes()));
  }
  return digest_.Digest();
}

absl::StatusOr<std::string> EnvelopeBuilder::Header() const {
  MNEMO_ASSIGN_OR_RETURN(const Digest128 digest, Digest());
  return SerializeHeader(envelope_.key_checksum_, digest, envelope_.payload_bytes_,
                         envelope_.stored_bytes_, /*error=*/0, envelope_.sections_);
}

namespace {

// Relative, of a section: what errs by more than the section itself is not kept so.
constexpr double kMostError = 1;

// Encodes sections one after another, and adds up what is lost.
class SectionEncoder {
 public:
  static absl::StatusOr<SectionEncoder> Create(const EncodingTarget& target) {
    SectionEncoder encoder(target);
    if (!IsLossy(target.form)) return encoder;
    MNEMO_ASSIGN_OR_RETURN(encoder.tensor_codec_,
                           TensorCodec::Create(CodecOf(target.form), BitsOf(target.form)));
    return encoder;
  }

  // Makes `section` that of `exact` in the target's form, and answers its bytes, which
  // are valid until the next call. Errors: kInvalidArgument (the tensors).
  absl::StatusOr<ByteView> Encode(uint32_t i, ByteView exact, EnvelopeSection& section) {
    section.bits = 0;
    section.error = 0;
    if (tensor_codec_ != nullptr) {
      MNEMO_ASSIGN_OR_RETURN(const bool encoded, EncodeTensor(i, exact, section));
      if (encoded) return ByteView(encoded_).first(section.stored_bytes);
    }
    return EncodeExactly(exact, section);
  }

  float error() const { return static_cast<float>(error_.relative()); }

 private:
  explicit SectionEncoder(const EncodingTarget& target) : target_(target) {}

  // False if the codec refuses what is there, or gains nothing.
  absl::StatusOr<bool> EncodeTensor(uint32_t i, ByteView exact, EnvelopeSection& section) {
    const TensorShape& shape = target_.tensors[i];
    encoded_.resize(tensor_codec_->MaxEncodedSize(shape));
    const absl::StatusOr<EncodedTensor> tensor =
        tensor_codec_->Encode(shape, exact, target_.calibration, encoded_);
    if (absl::IsOutOfRange(tensor.status())) return false;
    MNEMO_RETURN_IF_ERROR(tensor.status());
    if (tensor->bytes >= exact.size()) return false;
    // Zeros that come back as a mean, or numbers so small that the error is beyond them.
    const bool is_zero = tensor->error.squares == 0 && tensor->error.squared_errors > 0;
    if (is_zero || !(tensor->error.relative() <= kMostError)) return false;
    section.codec = static_cast<uint8_t>(tensor_codec_->id());
    section.bits = static_cast<uint8_t>(tensor_codec_->bits());
    section.error = static_cast<float>(tensor->error.relative());
    section.stored_bytes = static_cast<uint32_t>(tensor->bytes);
    error_.Add(tensor->error);
    return true;
  }

  absl::StatusOr<ByteView> EncodeExactly(ByteView exact, EnvelopeSection& section) {
    const Codec& codec = target_.form == StoredForm::kRaw ? codecs_.raw() : codecs_.lossless();
    encoded_.resize(codec.MaxEncodedSize(exact.size()));
    MNEMO_ASSIGN_OR_RETURN(const uint64_t size,
                           codec.Encode(exact, section.element_bytes, encoded_));
    const bool gains = size < exact.size();
    section.codec = static_cast<uint8_t>(gains ? codec.id() : CodecId::kRaw);
    section.stored_bytes = static_cast<uint32_t>(gains ? size : exact.size());
    return gains ? ByteView(encoded_).first(size) : exact;
  }

  const EncodingTarget& target_;
  CodecSet codecs_;
  std::unique_ptr<TensorCodec> tensor_codec_;  // of a lossy form
  std::vector<uint8_t> encoded_;
  EncodingError error_;
};

absl::Status CheckTensors(const Envelope& envelope, const EncodingTarget& target) {
  if (!IsLossy(target.form)) return absl::OkStatus();
  if (target.tensors.size() != envelope.section_count()) {
    return absl::InvalidArgumentError(
        fmt::format("{} tensors for {} sections", target.tensors.size(), envelope.section_count()));
  }
  for (uint32_t i = 0; i < envelope.section_count(); ++i) {
    if (target.tensors[i].bytes() == envelope.sections()[i].exact_bytes) continue;
    return absl::InvalidArgumentError(fmt::format("section {} is not of its tensor's size", i));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> Transcode(std::string_view key, const PinnedBytes& value,
                                      SectionDecoder& decoder, const EncodingTarget& target) {
  MNEMO_ASSIGN_OR_RETURN(const Envelope envelope, Envelope::Parse(value));
  if (!envelope.Matches(key)) return Damaged("bytes of another key");
  if (envelope.lossy()) return absl::FailedPreconditionError("the exact bytes are not here");
  MNEMO_RETURN_IF_ERROR(CheckTensors(envelope, target));
  MNEMO_ASSIGN_OR_RETURN(SectionEncoder encoder, SectionEncoder::Create(target));

  std::vector<EnvelopeSection> sections = envelope.sections();
  std::string out(envelope.header_bytes(), '\0');
  std::vector<uint8_t> exact;
  for (uint32_t i = 0; i < sections.size(); ++i) {
    EnvelopeSection& section = sections[i];
    exact.resize(section.exact_bytes);
    MNEMO_RETURN_IF_ERROR(envelope.DecodeSection(i, value, decoder, exact));
    MNEMO_ASSIGN_OR_RETURN(const ByteView stored, encoder.Encode(i, exact, section));
    section.offset = out.size();
    section.checksum = Checksum64(stored, KeyChecksum(key));
    out.append(AsText(stored));
  }
  const std::string header =
      SerializeHeader(KeyChecksum(key), envelope.digest(), envelope.payload_bytes(), out.size(),
                      encoder.error(), sections);
  std::copy(header.begin(), header.end(), out.begin());
  return out;
}

namespace {

// What sections lost of all encoded values of a part, in squares.
struct Lost {
  double squares = 0;
  double squared_errors = 0;

  float relative() const {
    return squares > 0 ? static_cast<float>(std::sqrt(squared_errors / squares)) : 0;
  }
};

// Cuts `stored`, a section that `entry` describes, and adds what it has lost then.
absl::Status CutSection(SectionDecoder& decoder, uint32_t bits, std::vector<uint8_t>& stored,
                        EnvelopeSection& entry, Lost& lost) {
  if (!IsTensorCodec(entry.codec)) return absl::OkStatus();
  MNEMO_ASSIGN_OR_RETURN(const TensorShape shape, ShapeOfSection(stored));
  std::vector<uint8_t> was(entry.exact_bytes);
  MNEMO_RETURN_IF_ERROR(decoder.Decode(entry.codec, stored, was));
  std::vector<uint8_t> is = was;
  const double error_before = entry.error;
  if (entry.codec == static_cast<uint8_t>(CodecId::kProgressive) && entry.bits > bits) {
    MNEMO_ASSIGN_OR_RETURN(const uint64_t size, Demote(stored, bits));
    stored.resize(size);
    MNEMO_RETURN_IF_ERROR(decoder.Decode(entry.codec, stored, is));
    entry.bits = static_cast<uint8_t>(bits);
    entry.stored_bytes = static_cast<uint32_t>(size);
  }
  const EncodingError between = DifferenceOf(shape, was, is);
  const double kept = 1 - std::min(1.0, error_before * error_before);
  entry.error = static_cast<float>(
      std::sqrt(error_before * error_before + kept * between.relative() * between.relative()));
  const double squares = between.squares / std::max(1e-6, kept);
  lost.squares += squares;
  lost.squared_errors += double{entry.error} * entry.error * squares;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> CutEnvelope(std::string_view key, const PinnedBytes& value,
                                        SectionDecoder& decoder, uint32_t bits) {
  MNEMO_ASSIGN_OR_RETURN(const Envelope envelope, Envelope::Parse(value));
  if (!envelope.Matches(key)) return Damaged("bytes of another key");
  std::vector<EnvelopeSection> sections = envelope.sections();
  std::string out(envelope.header_bytes(), '\0');
  std::vector<uint8_t> stored;
  Lost lost;
  for (uint32_t i = 0; i < sections.size(); ++i) {
    EnvelopeSection& section = sections[i];
    MNEMO_RETURN_IF_ERROR(envelope.VerifySection(i, value));
    stored.resize(section.stored_bytes);
    value.CopyTo(section.offset, stored);
    MNEMO_RETURN_IF_ERROR(CutSection(decoder, bits, stored, section, lost));
    section.offset = out.size();
    section.checksum = Checksum64(stored, KeyChecksum(key));
    out.append(AsText(stored));
  }
  const std::string header =
      SerializeHeader(KeyChecksum(key), envelope.digest(), envelope.payload_bytes(), out.size(),
                      lost.relative(), sections);
  std::copy(header.begin(), header.end(), out.begin());
  return out;
}

}  // namespace mnemo
