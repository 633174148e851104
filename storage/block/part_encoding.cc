#include "storage/block/part_encoding.h"

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

constexpr auto kRaw = static_cast<uint8_t>(CodecId::kRaw);

}  // namespace

absl::StatusOr<Envelope> CheckedHeader(const DirectoryEntry& entry, const PinnedBytes& stored) {
  MNEMO_ASSIGN_OR_RETURN(Envelope envelope, Envelope::Parse(stored));
  if (!envelope.Matches(entry.key.Stored())) {
    return absl::DataLossError("envelope: holds another key");
  }
  if (envelope.digest() != entry.digest || envelope.payload_bytes() != entry.payload_bytes) {
    return absl::DataLossError("envelope: not the bytes that the directory knows");
  }
  return envelope;
}

absl::StatusOr<EncodedPart> EncodeIfItPays(StoreCore& core, const DirectoryEntry& entry,
                                           const PinnedBytes& stored, uint8_t codec) {
  if (codec != kRaw || !core.encodings.ShouldTry(entry.key.scope)) {
    return EncodedPart(stored, codec);
  }
  MNEMO_ASSIGN_OR_RETURN(std::string encoded, Transcode(entry.key.Stored(), stored, core.codecs,
                                                        CodecId::kLossless));
  core.encodings.Tell(entry.key.scope, stored.size(), encoded.size());
  const bool pays = static_cast<double>(encoded.size()) <=
                    EncodingChoice::kPays * static_cast<double>(stored.size());
  if (!pays) return EncodedPart(stored, codec);
  return EncodedPart(std::move(encoded), static_cast<uint8_t>(CodecId::kLossless));
}

absl::StatusOr<EncodedPart> ExactForm(const StoreCore& core, const DirectoryEntry& entry,
                                      const PinnedBytes& stored) {
  MNEMO_ASSIGN_OR_RETURN(const Envelope envelope, CheckedHeader(entry, stored));
  if (envelope.raw()) {
    MNEMO_RETURN_IF_ERROR(envelope.VerifyAll(stored, core.codecs));
    return EncodedPart(stored, kRaw);
  }
  MNEMO_ASSIGN_OR_RETURN(std::string exact,
                         Transcode(entry.key.Stored(), stored, core.codecs, CodecId::kRaw));
  return EncodedPart(std::move(exact), kRaw);
}

absl::Status VerifyPart(const StoreCore& core, const DirectoryEntry& entry,
                        const PinnedBytes& stored) {
  MNEMO_ASSIGN_OR_RETURN(const Envelope envelope, CheckedHeader(entry, stored));
  for (uint32_t i = 0; i < envelope.section_count(); ++i) {
    MNEMO_RETURN_IF_ERROR(envelope.VerifySection(i, stored));
  }
  return absl::OkStatus();
}

}  // namespace mnemo
