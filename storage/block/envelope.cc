// docs/formats/envelope.md.
#include "storage/block/envelope.h"

#include <fmt/format.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // as in storage/base/checksum.cc
#endif

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr uint32_t kMagic = 0x56454e4d;  // "MNEV"
constexpr uint16_t kVersion = 1;
constexpr size_t kFixedSize = 64;
constexpr size_t kEntrySize = 32;
constexpr size_t kHeaderChecksumAt = 56;
constexpr uint64_t kKeySeed = 0x6d6e656d6f6b6579;     // "mnemokey"
constexpr uint64_t kHeaderSeed = 0x6d6e656d6f686472;  // "mnemohdr"

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(fmt::format("envelope: {}", what));
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

std::string SerializeHeader(uint64_t key_checksum, const Digest128& digest, uint64_t payload_bytes,
                            uint64_t stored_bytes, std::span<const EnvelopeSection> sections) {
  std::string out;
  out.reserve(EnvelopeHeaderSize(static_cast<uint32_t>(sections.size())));
  AppendLittle<uint32_t>(out, kMagic);
  AppendLittle<uint16_t>(out, kVersion);
  AppendLittle<uint16_t>(out, 0);
  AppendLittle<uint32_t>(out, static_cast<uint32_t>(sections.size()));
  AppendLittle<uint32_t>(out, 0);
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
    out.append(6, '\0');
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
  for (const uint8_t byte : reader.Take(6)) reserved_zero &= byte == 0;
  return section;
}

uint64_t KeyChecksum(const StoredKey& key) { return Checksum64(AsBytes(key.bytes()), kKeySeed); }

}  // namespace

struct StreamingDigest128::State {
  XXH3_state_t xxh;
};

StreamingDigest128::StreamingDigest128() : state_(new State) {
  MNEMO_CHECK(XXH3_128bits_reset(&state_->xxh) == XXH_OK);
}
StreamingDigest128::~StreamingDigest128() = default;
StreamingDigest128::StreamingDigest128(StreamingDigest128&&) noexcept = default;
StreamingDigest128& StreamingDigest128::operator=(StreamingDigest128&&) noexcept = default;

void StreamingDigest128::Update(ByteView bytes) {
  MNEMO_CHECK(XXH3_128bits_update(&state_->xxh, bytes.data(), bytes.size()) == XXH_OK);
}

Digest128 StreamingDigest128::Digest() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->xxh);
  return {hash.low64, hash.high64};
}

Digest128 DigestOf(ByteView bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

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
  const auto reserved32 = reader.Little<uint32_t>();
  envelope.key_checksum_ = reader.Little<uint64_t>();
  envelope.digest_.low = reader.Little<uint64_t>();
  envelope.digest_.high = reader.Little<uint64_t>();
  envelope.payload_bytes_ = reader.Little<uint64_t>();
  envelope.stored_bytes_ = reader.Little<uint64_t>();
  const auto checksum = reader.Little<uint64_t>();
  if (!reader.ok()) return Damaged("shorter than its header");
  if (magic != kMagic) return Damaged("not an envelope");
  if (version != kVersion) return Damaged(fmt::format("version {}, not {}", version, kVersion));
  if (count == 0 || count > kMaxEnvelopeSections || reader.remaining() / kEntrySize < count) {
    return Damaged(fmt::format("{} sections", count));
  }
  if (HeaderChecksum(front.first(EnvelopeHeaderSize(count))) != checksum) {
    return Damaged("header checksum");
  }

  // Behind a right checksum only a faulty writer fails what follows; it is
  // checked all the same, since offsets and sizes are about to be believed.
  bool reserved_zero = reserved16 == 0 && reserved32 == 0;
  uint64_t offset = EnvelopeHeaderSize(count);
  uint64_t exact = 0;
  envelope.sections_.reserve(count);
  envelope.exact_offsets_.reserve(count + 1);
  for (uint32_t i = 0; i < count; ++i) {
    const EnvelopeSection section = ReadSection(reader, reserved_zero);
    const bool is_raw = section.codec == static_cast<uint8_t>(CodecId::kRaw);
    if (section.offset != offset || section.exact_bytes == 0 || section.stored_bytes == 0 ||
        !IsElementSize(section.element_bytes) ||
        (is_raw && section.stored_bytes != section.exact_bytes)) {
      return Damaged(fmt::format("entry of section {}", i));
    }
    envelope.raw_ &= is_raw;
    envelope.exact_offsets_.push_back(exact);
    offset += section.stored_bytes;
    exact += section.exact_bytes;
    envelope.sections_.push_back(section);
  }
  envelope.exact_offsets_.push_back(exact);
  if (!reserved_zero) return Damaged("reserved bytes are not zero");
  if (offset != envelope.stored_bytes_ || offset != value_size ||
      exact != envelope.payload_bytes_ || exact > kMaxEnvelopePayload) {
    return Damaged(fmt::format("sections add up to {} bytes of {}", offset, value_size));
  }
  return envelope;
}

bool Envelope::Matches(const StoredKey& key) const { return KeyChecksum(key) == key_checksum_; }

absl::Status Envelope::VerifySection(uint32_t i, const PinnedBytes& value) const {
  MNEMO_CHECK(i < section_count() && value.size() == stored_bytes_);
  const EnvelopeSection& section = sections_[i];
  const PinnedBytes stored = value.Slice(section.offset, section.stored_bytes);
  if (ChecksumOf(stored, key_checksum_) != section.checksum) {
    return Damaged(fmt::format("checksum of section {}", i));
  }
  return absl::OkStatus();
}

absl::Status Envelope::DecodeSection(uint32_t i, const PinnedBytes& value, const CodecSet& codecs,
                                     MutableByteView exact) const {
  MNEMO_RETURN_IF_ERROR(VerifySection(i, value));
  const EnvelopeSection& section = sections_[i];
  MNEMO_CHECK(exact.size() == section.exact_bytes);
  MNEMO_ASSIGN_OR_RETURN(const Codec* const codec, codecs.Find(section.codec));
  if (codec->id() == CodecId::kRaw) {
    value.CopyTo(section.offset, exact);
    return absl::OkStatus();
  }
  const PinnedBytes stored = value.Slice(section.offset, section.stored_bytes);
  if (stored.pieces().size() == 1) return codec->Decode(stored.pieces()[0], exact);
  std::vector<uint8_t> gathered(section.stored_bytes);
  stored.CopyTo(0, gathered);
  return codec->Decode(gathered, exact);
}

absl::Status Envelope::VerifyAll(const PinnedBytes& value, const CodecSet& codecs) const {
  if (value.size() != stored_bytes_) return Damaged("a value of another size");
  StreamingDigest128 digest;
  std::vector<uint8_t> exact;
  for (uint32_t i = 0; i < section_count(); ++i) {
    exact.resize(sections_[i].exact_bytes);
    MNEMO_RETURN_IF_ERROR(DecodeSection(i, value, codecs, exact));
    digest.Update(exact);
  }
  return digest.Digest() == digest_ ? absl::OkStatus() : Damaged("digest of the payload");
}

absl::StatusOr<EnvelopeBuilder> EnvelopeBuilder::Create(const StoredKey& key,
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
                         envelope_.stored_bytes_, envelope_.sections_);
}

absl::StatusOr<std::string> Transcode(const StoredKey& key, const PinnedBytes& value,
                                      const CodecSet& codecs, CodecId target) {
  MNEMO_ASSIGN_OR_RETURN(const Envelope envelope, Envelope::Parse(value));
  if (!envelope.Matches(key)) return Damaged("bytes of another key");
  MNEMO_ASSIGN_OR_RETURN(const Codec* const codec, codecs.Find(static_cast<uint8_t>(target)));

  std::vector<EnvelopeSection> sections = envelope.sections();
  std::string out(envelope.header_bytes(), '\0');
  std::vector<uint8_t> exact;
  std::vector<uint8_t> encoded;
  for (uint32_t i = 0; i < sections.size(); ++i) {
    EnvelopeSection& section = sections[i];
    exact.resize(section.exact_bytes);
    MNEMO_RETURN_IF_ERROR(envelope.DecodeSection(i, value, codecs, exact));
    encoded.resize(codec->MaxEncodedSize(exact.size()));
    MNEMO_ASSIGN_OR_RETURN(const uint64_t encoded_size,
                           codec->Encode(exact, section.element_bytes, encoded));
    const bool gains = encoded_size < exact.size();
    const ByteView stored = gains ? ByteView(encoded).first(encoded_size) : ByteView(exact);
    section.codec = static_cast<uint8_t>(gains ? target : CodecId::kRaw);
    section.offset = out.size();
    section.stored_bytes = static_cast<uint32_t>(stored.size());
    section.checksum = Checksum64(stored, KeyChecksum(key));
    out.append(AsText(stored));
  }
  const std::string header = SerializeHeader(KeyChecksum(key), envelope.digest(),
                                             envelope.payload_bytes(), out.size(), sections);
  std::copy(header.begin(), header.end(), out.begin());
  return out;
}

}  // namespace mnemo
