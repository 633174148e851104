#include "storage/block/part_encoding.h"

#include <memory>
#include <optional>

#include "storage/base/status_macros.h"
#include "storage/block/form_choice.h"
#include "storage/block/space_tensors.h"

namespace mnemo {
namespace {

constexpr auto kRaw = static_cast<uint8_t>(StoredForm::kRaw);

// What decoding the part may take: null where it is exact. Errors: those of Store.
absl::StatusOr<std::shared_ptr<const CalibrationSet>> CalibrationsOf(StoreCore& core,
                                                                     const DirectoryEntry& entry,
                                                                     const Envelope& envelope) {
  if (!envelope.lossy()) return nullptr;
  return core.spaces.CalibrationsOf(entry.key.scope);
}

// The calibration of the part's group, to which the part may add first. None: not yet.
// Errors: kDataLoss (`stored`), those of Store.
absl::StatusOr<std::optional<SpaceCodecs::GroupCalibration>> CalibrationFor(
    StoreCore& core, const DirectoryEntry& entry, const Envelope& envelope,
    const PinnedBytes& stored, const Space& space, CalibrationKind wanted,
    std::span<const TensorShape> tensors) {
  const uint8_t group = entry.key.part.group;
  MNEMO_ASSIGN_OR_RETURN(auto known, core.spaces.OfGroup(space.scope, group, wanted));
  if (known && known->is_final) return known;
  if (envelope.section_count() != tensors.size()) return known;
  SectionDecoder decoder(core.codecs);
  std::vector<uint8_t> exact;
  MNEMO_RETURN_IF_ERROR(
      core.spaces.Learn(space, group, wanted, tensors, [&](uint32_t i) -> absl::StatusOr<ByteView> {
        exact.resize(envelope.sections()[i].exact_bytes);
        MNEMO_RETURN_IF_ERROR(envelope.DecodeSection(i, stored, decoder, exact));
        return ByteView(exact);
      }));
  return core.spaces.OfGroup(space.scope, group, wanted);
}

absl::StatusOr<EncodedPart> Encoded(StoreCore& core, const DirectoryEntry& entry,
                                    const PinnedBytes& stored, const EncodingTarget& target) {
  SectionDecoder decoder(core.codecs);
  MNEMO_ASSIGN_OR_RETURN(std::string encoded,
                         Transcode(entry.key.Stored().bytes(), stored, decoder, target));
  MNEMO_ASSIGN_OR_RETURN(const Envelope made, Envelope::Parse(AsBytes(encoded)));
  return EncodedPart(std::move(encoded), FormOfEnvelope(made));
}

// Whether the part in the form with axes is better than in the one without. None: one of them
// stayed exact, which says nothing of others. Errors: kDataLoss, those of Store.
absl::StatusOr<std::optional<bool>> MeasureAxes(StoreCore& core, KeyScope scope,
                                                const EncodedPart& without,
                                                const EncodedPart& with_axes) {
  if (!IsLossyForm(without.form()) || !IsLossyForm(with_axes.form())) return std::nullopt;
  MNEMO_ASSIGN_OR_RETURN(const FormTrial of_plain, TrialOf(without.pieces().front()));
  MNEMO_ASSIGN_OR_RETURN(const FormTrial of_axes, TrialOf(with_axes.pieces().front()));
  MNEMO_ASSIGN_OR_RETURN(auto calibrations, core.spaces.CalibrationsOf(scope));
  SectionDecoder decoder(core.codecs, std::move(calibrations));
  MNEMO_ASSIGN_OR_RETURN(const double rate,
                         DecodeRateOf(with_axes.pieces().front(), decoder, core.time()));
  return AreAxesBetter(of_plain, of_axes, rate);
}

// The part in whichever of `target`'s form and `with_axes` its group keeps to; if that is not
// known, in what is better, measured by the part itself. Where axes fail, without them.
absl::StatusOr<EncodedPart> EncodedInBetter(StoreCore& core, const DirectoryEntry& entry,
                                            const PinnedBytes& stored, EncodingTarget target,
                                            StoredForm with_axes) {
  const KeyScope scope = entry.key.scope;
  const uint8_t group = entry.key.part.group;
  const StoredForm without = target.form;
  const std::optional<StoredForm> choice = core.spaces.ChoiceOf(scope, group, with_axes);
  if (choice == without) return Encoded(core, entry, stored, target);
  target.form = with_axes;
  absl::StatusOr<EncodedPart> axes = Encoded(core, entry, stored, target);
  if (choice && axes.ok()) return axes;
  target.form = without;
  MNEMO_ASSIGN_OR_RETURN(EncodedPart plain, Encoded(core, entry, stored, target));
  if (choice) return plain;
  absl::StatusOr<std::optional<bool>> better;
  if (axes.ok()) better = MeasureAxes(core, scope, plain, *axes);
  if (!better.ok() || !better->has_value()) {
    core.spaces.CountVainTrial(scope, group, with_axes, without);
    return plain;
  }
  // Somebody else may have been first.
  const StoredForm kept =
      core.spaces.Choose(scope, group, with_axes, **better ? with_axes : without);
  return kept == with_axes ? std::move(*axes) : std::move(plain);
}

// The exact part `stored` in the lossy form in which its space wants it at `level`. None:
// exact, by policy, by nature, or until its group is calibrated. Errors: kDataLoss, those of Store.
absl::StatusOr<std::optional<EncodedPart>> LossyForm(StoreCore& core, const DirectoryEntry& entry,
                                                     const Envelope& envelope,
                                                     const PinnedBytes& stored, Level level) {
  const std::shared_ptr<const Space> space = core.spaces.Find(entry.key.scope);
  if (space == nullptr) return std::nullopt;
  EncodingTarget target{.form = FormAt(space->spec.policy, level)};
  if (!IsLossy(target.form)) return std::nullopt;
  MNEMO_ASSIGN_OR_RETURN(target.tensors, TensorsOf(space->spec, entry.key.part, entry.depth));
  if (target.tensors.empty()) return std::nullopt;
  const std::optional<StoredForm> with_axes = FormWithAxesAt(space->spec.policy, level);
  const CalibrationKind wanted = with_axes ? CalibrationKind::kAxes : CalibrationKind::kStatistics;
  MNEMO_ASSIGN_OR_RETURN(const auto calibrated, CalibrationFor(core, entry, envelope, stored,
                                                               *space, wanted, target.tensors));
  if (!calibrated) return std::nullopt;
  target.calibration = calibrated->calibration.get();
  if (!with_axes || target.calibration == nullptr || !target.calibration->has_axes()) {
    return Encoded(core, entry, stored, target);
  }
  return EncodedInBetter(core, entry, stored, std::move(target), *with_axes);
}

// The lossy part `stored` as `level` keeps it: in fewer bits where its form can be cut to
// those that the space's policy has there, otherwise as it is. Errors: kDataLoss, those of Store.
absl::StatusOr<EncodedPart> WithoutPlanes(StoreCore& core, const DirectoryEntry& entry,
                                          const Envelope& envelope, const PinnedBytes& stored,
                                          Level level) {
  const uint8_t form = FormOfEnvelope(envelope);
  const std::shared_ptr<const Space> space = core.spaces.Find(entry.key.scope);
  if (space == nullptr || !MayBeCut(form, space->spec.policy, level)) {
    return EncodedPart(stored, form);
  }
  auto calibrations = CalibrationsOf(core, entry, envelope);
  // One that cannot be read says nothing of the part.
  if (!calibrations.ok()) return EncodedPart(stored, form);
  SectionDecoder decoder(core.codecs, *std::move(calibrations));
  MNEMO_ASSIGN_OR_RETURN(std::string cut, CutEnvelope(entry.key.Stored().bytes(), stored, decoder,
                                                      BitsOf(FormAt(space->spec.policy, level))));
  MNEMO_ASSIGN_OR_RETURN(const Envelope made, Envelope::Parse(AsBytes(cut)));
  return EncodedPart(std::move(cut), FormOfEnvelope(made));
}

// Whether codes of `bits`, which have lost something, are less than the owner asks for.
bool AreBelowFloor(const StoreCore& core, KeyScope scope, uint32_t bits) {
  const std::shared_ptr<const Space> space = core.spaces.Find(scope);
  return space != nullptr && IsBelowFloor(space->spec.policy, bits);
}

}  // namespace

uint8_t FormOfEnvelope(const Envelope& envelope) {
  if (envelope.raw()) return kRaw;
  for (const EnvelopeSection& section : envelope.sections()) {
    if (!IsTensorCodec(section.codec)) continue;
    return static_cast<uint8_t>(*FormOf(static_cast<CodecId>(section.codec), section.bits));
  }
  return static_cast<uint8_t>(StoredForm::kLossless);
}

absl::StatusOr<Envelope> CheckedHeader(const DirectoryEntry& entry, const PinnedBytes& stored) {
  MNEMO_ASSIGN_OR_RETURN(Envelope envelope, Envelope::Parse(stored));
  if (!envelope.Matches(entry.key.Stored().bytes())) {
    return absl::DataLossError("envelope: holds another key");
  }
  if (envelope.digest() != entry.digest || envelope.payload_bytes() != entry.payload_bytes) {
    return absl::DataLossError("envelope: not the bytes that the directory knows");
  }
  return envelope;
}

absl::StatusOr<EncodedPart> FormFor(StoreCore& core, const DirectoryEntry& entry,
                                    const PinnedBytes& stored, Level level) {
  MNEMO_ASSIGN_OR_RETURN(const Envelope envelope, CheckedHeader(entry, stored));
  const uint8_t form = FormOfEnvelope(envelope);
  // What is lost is not got back, and must not be encoded twice.
  if (envelope.lossy()) return WithoutPlanes(core, entry, envelope, stored, level);
  absl::StatusOr<std::optional<EncodedPart>> lossy =
      LossyForm(core, entry, envelope, stored, level);
  // A calibration that is damaged says nothing of the part.
  if (absl::IsDataLoss(lossy.status())) MNEMO_RETURN_IF_ERROR(VerifyPart(entry, stored));
  // Whatever else failed, the part may stay exact.
  if (lossy.ok() && lossy->has_value()) return **std::move(lossy);
  // L3 takes what is exact as it comes.
  if (form != kRaw || level == Level::kL3 || !core.encodings.ShouldTry(entry.key.scope)) {
    return EncodedPart(stored, form);
  }
  SectionDecoder decoder(core.codecs);
  MNEMO_ASSIGN_OR_RETURN(std::string encoded, Transcode(entry.key.Stored().bytes(), stored, decoder,
                                                        {.form = StoredForm::kLossless}));
  core.encodings.Tell(entry.key.scope, stored.size(), encoded.size());
  const bool pays = static_cast<double>(encoded.size()) <=
                    EncodingChoice::kPays * static_cast<double>(stored.size());
  if (!pays) return EncodedPart(stored, form);
  return EncodedPart(std::move(encoded), static_cast<uint8_t>(StoredForm::kLossless));
}

absl::StatusOr<EncodedPart> FormForL1(StoreCore& core, const DirectoryEntry& entry,
                                      const PinnedBytes& stored) {
  MNEMO_ASSIGN_OR_RETURN(const Envelope envelope, CheckedHeader(entry, stored));
  MNEMO_ASSIGN_OR_RETURN(auto calibrations, CalibrationsOf(core, entry, envelope));
  SectionDecoder decoder(core.codecs, std::move(calibrations));
  if (envelope.raw() || envelope.lossy()) {
    MNEMO_RETURN_IF_ERROR(envelope.VerifyAll(stored, decoder));
    return EncodedPart(stored, FormOfEnvelope(envelope));
  }
  MNEMO_ASSIGN_OR_RETURN(std::string exact, Transcode(entry.key.Stored().bytes(), stored, decoder,
                                                      {.form = StoredForm::kRaw}));
  return EncodedPart(std::move(exact), kRaw);
}

absl::Status VerifyPart(const DirectoryEntry& entry, const PinnedBytes& stored) {
  MNEMO_ASSIGN_OR_RETURN(const Envelope envelope, CheckedHeader(entry, stored));
  for (uint32_t i = 0; i < envelope.section_count(); ++i) {
    MNEMO_RETURN_IF_ERROR(envelope.VerifySection(i, stored));
  }
  return absl::OkStatus();
}

absl::StatusOr<PinnedBytes> DecodeSections(StoreCore& core, const DirectoryEntry& entry,
                                           const Envelope& envelope, const PinnedBytes& stored,
                                           uint32_t first, uint32_t count) {
  MNEMO_ASSIGN_OR_RETURN(auto calibrations, CalibrationsOf(core, entry, envelope));
  SectionDecoder decoder(core.codecs, std::move(calibrations));
  const uint64_t begin = envelope.ExactOffset(first);
  const uint64_t size = envelope.ExactOffset(first + count) - begin;
  // Shared, because slices of an answer outlive one another in any order.
  const std::shared_ptr<uint8_t[]> decoded = std::make_shared_for_overwrite<uint8_t[]>(size);
  const MutableByteView whole(decoded.get(), size);
  for (uint32_t i = first; i < first + count; ++i) {
    const uint64_t offset = envelope.ExactOffset(i) - begin;
    const uint64_t length = envelope.ExactOffset(i + 1) - envelope.ExactOffset(i);
    MNEMO_RETURN_IF_ERROR(
        envelope.DecodeSection(i, stored, decoder, whole.subspan(offset, length)));
  }
  return PinnedBytes({ByteView(whole)}, decoded);
}

bool IsBelowFloor(const StoreCore& core, const DirectoryEntry& entry, const Envelope& envelope) {
  return envelope.lossy() && AreBelowFloor(core, entry.key.scope, envelope.lowest_bits());
}

bool IsBelowFloor(const StoreCore& core, KeyScope scope, uint8_t form) {
  return IsLossyForm(form) && AreBelowFloor(core, scope, BitsOf(static_cast<StoredForm>(form)));
}

bool IsBelowFloor(const StoreCore& core, const DirectoryEntry& entry) {
  const KeyScope scope = entry.key.scope;
  if (entry.ram && !IsBelowFloor(core, scope, entry.ram->codec)) return false;
  return (entry.ram || entry.disk) && (!entry.disk || IsBelowFloor(core, scope, entry.disk->codec));
}

}  // namespace mnemo
