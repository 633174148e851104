// What spaces allow to lose, and what is kept and answered then.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "storage/block/space_codecs.h"
#include "storage/codec/envelope.h"
#include "tests/support/model_store_fixture.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

using CodecPolicyTest = ModelStoreTest;

TEST_F(CodecPolicyTest, L2KeepsInFewBitsWhatTheOwnerAllowsToLose) {
  Calibrate();
  PutBook(2, "heldout", 8);
  FillL1();
  int lossy = 0;
  for (uint32_t depth = 0; depth < 8; ++depth) {
    const std::string exact = BlockOfBook("heldout", depth);
    ASSERT_OK_AND_ASSIGN(const PartRead read, store_->Read(Key(2, depth), 0, 0));
    ASSERT_EQ(read.level, Level::kL2) << depth;
    ASSERT_TRUE(read.fidelity.has_value()) << depth;
    EXPECT_EQ(read.fidelity->codec, "rotated4");
    const std::string bytes = read.bytes.ToString();
    EXPECT_NEAR(RelativeError(exact, bytes), read.fidelity->error, depth == 0 ? 0.1 : 1e-3);
    EXPECT_LT(read.fidelity->error, 0.12F);
    // 0.25 bits for gains, 0.08 for headers; more where four tokens are exact.
    EXPECT_LT(read.fidelity->bits_per_value, depth == 0 ? 8.0 : 4.4);
    // What names the part is not the digest of what is answered.
    EXPECT_EQ(read.digest, DigestOf(AsBytes(exact)));
    EXPECT_NE(bytes, exact);
    EXPECT_EQ(store_->Describe(Key(2, depth))->codec, "rotated4");
    ++lossy;
    // A layer of it is the same as in the whole.
    ASSERT_OK_AND_ASSIGN(const PartRead layer, store_->Read(Key(2, depth), 2, 2));
    EXPECT_EQ(layer.bytes.ToString(), bytes.substr(2 * kTensorBytes));
    EXPECT_EQ(layer.fidelity, read.fidelity);
  }
  EXPECT_EQ(lossy, 8);
}

// What decoding an excerpt gives, section by section.
std::string Decoded(BlockStore& store, KeyScope scope, const PartRead& read,
                    const std::vector<SectionRun>& runs) {
  const std::string bytes = read.bytes.ToString();
  const auto excerpt = EnvelopeExcerpt::Parse(AsBytes(bytes), runs);
  EXPECT_OK(excerpt);
  auto calibrations = std::make_shared<CalibrationSet>();
  for (const uint32_t id : excerpt->Calibrations()) {
    const auto serialized = store.CalibrationOf(scope, id);
    EXPECT_OK(serialized);
    calibrations->Add(*Calibration::Parse(AsBytes(*serialized)));
  }
  EXPECT_OK(excerpt->CheckCalibrations(*calibrations));
  const CodecSet codecs;
  SectionDecoder decoder(codecs, calibrations);
  std::string all;
  for (size_t i = 0; i < excerpt->sections().size(); ++i) {
    std::vector<uint8_t> section(excerpt->sections()[i].exact_bytes);
    EXPECT_OK(excerpt->Decode(i, decoder, section));
    all += AsText(section);
  }
  return all;
}

TEST_F(CodecPolicyTest, EncodedPartsAreGivenToWhoDecodesThem) {
  Calibrate();
  PutBook(2, "heldout", 4);
  FillL1();
  const std::vector<SectionRun> layer = {{.first = 2, .count = 2}};
  for (uint32_t depth = 0; depth < 4; ++depth) {
    ASSERT_OK_AND_ASSIGN(const PartRead whole, store_->Read(Key(2, depth), 0, 0));
    const uint64_t uses = store_->Describe(Key(2, depth))->uses;
    ASSERT_OK_AND_ASSIGN(const auto encoded, store_->ReadEncoded(Key(2, depth), {}, kAllCodecs));
    ASSERT_TRUE(encoded.has_value());
    EXPECT_EQ(store_->Describe(Key(2, depth))->uses, uses + 1);
    EXPECT_TRUE(encoded->encoded);
    EXPECT_EQ(encoded->digest, whole.digest);
    EXPECT_EQ(encoded->fidelity, whole.fidelity);
    EXPECT_EQ(encoded->payload_bytes, kBlockBytes);
    EXPECT_EQ(encoded->level, Level::kL2);
    EXPECT_LT(encoded->bytes.size(), kBlockBytes * (depth == 0 ? 10 : 6) / 16);
    EXPECT_EQ(encoded->given_digest, DigestOf(AsBytes(encoded->bytes.ToString())));
    EXPECT_EQ(Decoded(*store_, scope_, *encoded, {}), whole.bytes.ToString());
    ASSERT_OK_AND_ASSIGN(const auto half, store_->ReadEncoded(Key(2, depth), layer, kAllCodecs));
    ASSERT_TRUE(half.has_value());
    EXPECT_LT(half->bytes.size(), encoded->bytes.size());
    EXPECT_EQ(Decoded(*store_, scope_, *half, layer),
              whole.bytes.ToString().substr(2 * kTensorBytes));
  }
  // Who does not decode rotated sections has them decoded.
  ASSERT_OK_AND_ASSIGN(const auto other,
                       store_->ReadEncoded(Key(2, 1), {}, MaskOf(CodecId::kKivi)));
  EXPECT_FALSE(other.has_value());
  const std::vector<SectionRun> beyond = {{.first = 3, .count = 2}};
  EXPECT_THAT(store_->ReadEncoded(Key(2, 1), beyond, kAllCodecs),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(CodecPolicyTest, ExactPartsAreGivenEncodedWhereTheyLieSo) {
  SetFloor(0);
  Put(2, 1, BlockOfBook("heldout", 1));
  ASSERT_OK_AND_ASSIGN(const auto in_l1, store_->ReadEncoded(Key(2, 1), {}, kAllCodecs));
  EXPECT_FALSE(in_l1.has_value()) << "it lies as it was put";
  FillL1();
  ASSERT_EQ(store_->Describe(Key(2, 1))->codec, "lossless");
  ASSERT_OK_AND_ASSIGN(const auto encoded, store_->ReadEncoded(Key(2, 1), {}, kAllCodecs));
  ASSERT_TRUE(encoded.has_value());
  EXPECT_FALSE(encoded->fidelity.has_value());
  EXPECT_LT(encoded->bytes.size(), kBlockBytes);
  EXPECT_EQ(Decoded(*store_, scope_, *encoded, {}), BlockOfBook("heldout", 1));
  ASSERT_OK_AND_ASSIGN(const auto missing, store_->ReadEncoded(Key(9, 9), {}, kAllCodecs));
  EXPECT_FALSE(missing.has_value()) << "Read says why";
}

TEST_F(CodecPolicyTest, CalibrationsAreThoseOfTheirSpace) {
  Calibrate();
  PutBook(2, "heldout", 1);
  FillL1();
  ASSERT_OK_AND_ASSIGN(const auto encoded, store_->ReadEncoded(Key(2, 0), {}, kAllCodecs));
  const std::string bytes = encoded->bytes.ToString();
  const uint32_t id = *EnvelopeExcerpt::Parse(AsBytes(bytes), {})->Calibrations().begin();
  EXPECT_OK(store_->CalibrationOf(scope_, id));
  EXPECT_THAT(store_->CalibrationOf(scope_, id + 1), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store_->CalibrationOf({scope_.tenant, scope_.space + 1}, id),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(CodecPolicyTest, DeeperLevelsKeepFewerBitsOfTheSameCodes) {
  SetPolicy({.floor_bits_per_value = 3, .level_bits = {.l2 = 8, .l3 = 4}});
  Calibrate();
  PutBook(2, "heldout", 8);
  FillL1();
  std::vector<std::string> in_l2;
  for (uint32_t depth = 1; depth < 8; ++depth) {
    ASSERT_OK_AND_ASSIGN(const PartRead read, store_->Read(Key(2, depth), 0, 0));
    ASSERT_EQ(read.level, Level::kL2);
    ASSERT_TRUE(read.fidelity.has_value());
    EXPECT_EQ(read.fidelity->codec, "progressive8");
    EXPECT_LT(read.fidelity->error, 0.01F);
    in_l2.push_back(read.bytes.ToString());
  }
  ASSERT_OK(store_->Flush(scope_));
  // What is near still has all that it had.
  EXPECT_EQ(store_->Describe(Key(2, 1))->codec, "progressive8");
  Open();
  for (uint32_t depth = 1; depth < 8; ++depth) {
    ASSERT_OK_AND_ASSIGN(const PartRead read, store_->Read(Key(2, depth), 0, 0));
    ASSERT_EQ(read.level, Level::kL3);
    ASSERT_TRUE(read.fidelity.has_value());
    EXPECT_EQ(read.fidelity->codec, "progressive4");
    EXPECT_LT(read.fidelity->bits_per_value, 4.5);
    // Said from what it had lost before, and what it lost by going down.
    const double error = RelativeError(BlockOfBook("heldout", depth), read.bytes.ToString());
    EXPECT_NEAR(read.fidelity->error, error, 0.02 * error);
    EXPECT_EQ(read.digest, DigestOf(AsBytes(BlockOfBook("heldout", depth))));
  }
}

TEST_F(CodecPolicyTest, AChangedChainCutsWhatLiesThereAndNeverAddsBits) {
  SetPolicy({.floor_bits_per_value = 2, .level_bits = {.l2 = 8, .l3 = 5}});
  Calibrate();
  PutBook(2, "heldout", 4);
  ASSERT_OK(store_->Flush(scope_));
  Open();
  ASSERT_EQ(store_->Describe(Key(2, 1))->codec, "progressive5");
  SetPolicy({.floor_bits_per_value = 2, .level_bits = {.l2 = 8, .l3 = 3}});
  store_->SpaceChanged(scope_);
  EXPECT_TRUE(store_->ReencodingOf(scope_).under_way);
  while (store_->MoveStep()) {
  }
  EXPECT_FALSE(store_->ReencodingOf(scope_).under_way);
  for (uint32_t depth = 1; depth < 4; ++depth) {
    EXPECT_EQ(store_->Describe(Key(2, depth))->codec, "progressive3");
    ASSERT_OK_AND_ASSIGN(const PartRead read, store_->Read(Key(2, depth), 0, 0));
    const double error = RelativeError(BlockOfBook("heldout", depth), read.bytes.ToString());
    EXPECT_NEAR(read.fidelity->error, error, 0.02 * error);
  }
  EXPECT_EQ(store_->counters().below_floor, 0u);
  // More bits than are left nobody can give back.
  SetPolicy({.floor_bits_per_value = 2, .level_bits = {.l2 = 8, .l3 = 8}});
  store_->SpaceChanged(scope_);
  clock_.Advance(std::chrono::minutes(10));
  while (store_->MoveStep()) {
  }
  EXPECT_EQ(store_->Describe(Key(2, 1))->codec, "progressive3");
  Open();
  EXPECT_EQ(store_->Describe(Key(2, 1))->codec, "progressive3");
}

TEST_F(CodecPolicyTest, ACalibrationThatCannotBeReadCostsNoCopyThatIsToBeCut) {
  SetPolicy({.floor_bits_per_value = 2, .level_bits = {.l2 = 8, .l3 = 5}});
  Calibrate();
  PutBook(2, "heldout", 4);
  ASSERT_OK(store_->Flush(scope_));
  StoreBatch damage;
  const std::string prefix = CalibrationPrefix(scope_).bytes();
  ASSERT_OK(store_->state().Scan(
      prefix, PrefixEnd(prefix), [&](const StoredKey& key, std::string_view value) {
        damage.Put(key, std::string(value.size(), 'x'));
        damage.Log({.kind = OperationKind::kPutCalibration, .key = key.bytes()});
        return true;
      }));
  ASSERT_EQ(damage.writes().size(), 1u);
  ASSERT_OK(store_->state().Apply(damage, /*sync=*/true));
  Open();
  SetPolicy({.floor_bits_per_value = 2, .level_bits = {.l2 = 8, .l3 = 3}});
  store_->SpaceChanged(scope_);
  MoveAll(*store_);
  for (uint32_t depth = 1; depth < 4; ++depth) {
    const std::optional<PartState> left = store_->Describe(Key(2, depth));
    ASSERT_TRUE(left.has_value()) << depth;
    EXPECT_EQ(left->codec, "progressive5");
  }
}

TEST_F(CodecPolicyTest, L1AnswersWhatWasPut) {
  Calibrate();
  Put(2, 1, BlockOfBook("heldout", 1));
  ASSERT_OK_AND_ASSIGN(const PartRead read, store_->Read(Key(2, 1), 0, 0));
  EXPECT_EQ(read.level, Level::kL1);
  EXPECT_FALSE(read.fidelity.has_value());
  EXPECT_EQ(read.bytes.ToString(), BlockOfBook("heldout", 1));
}

TEST_F(CodecPolicyTest, DiskAndARestartKeepTheForm) {
  Calibrate();
  PutBook(2, "heldout", 8);
  ASSERT_OK(store_->Flush(scope_));
  const uint64_t on_l3 = store_->Usage(scope_).level_bytes[2];
  Open();
  EXPECT_EQ(store_->Usage(scope_).level_bytes[2], on_l3);
  for (uint32_t depth = 1; depth < 8; ++depth) {
    ASSERT_OK_AND_ASSIGN(const PartRead read, store_->Read(Key(2, depth), 0, 0));
    EXPECT_EQ(read.level, Level::kL3);
    ASSERT_TRUE(read.fidelity.has_value()) << depth;
    EXPECT_EQ(read.fidelity->codec, "rotated4");
    EXPECT_NEAR(RelativeError(BlockOfBook("heldout", depth), read.bytes.ToString()),
                read.fidelity->error, 1e-3);
  }
}

TEST_F(CodecPolicyTest, AGroupStaysExactUntilItIsCalibrated) {
  PutBook(1, "calibration", kBlocks - 1);
  ASSERT_OK(store_->Flush(scope_));
  for (uint32_t depth = 0; depth + 1 < kBlocks; ++depth) {
    EXPECT_EQ(store_->Describe(Key(1, depth))->codec, "raw");
  }
  Open();
  for (uint32_t depth = 0; depth + 1 < kBlocks; ++depth) {
    ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadAll(*store_, Key(1, depth)));
    EXPECT_EQ(bytes, BlockOfBook("calibration", depth));
  }
}

TEST_F(CodecPolicyTest, AFloorThatRisesTakesAwayWhatIsBelowIt) {
  Calibrate();
  PutBook(2, "heldout", 8);
  ASSERT_OK(store_->Flush(scope_));
  Open();
  ASSERT_TRUE(store_->Read(Key(2, 3), 0, 0)->fidelity.has_value());
  SetFloor(5);
  EXPECT_THAT(store_->Read(Key(2, 3), 0, 0), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_FALSE(store_->Describe(Key(2, 3)).has_value());
  SetFloor(0);
  EXPECT_THAT(store_->Read(Key(2, 4), 0, 0), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(store_->counters().below_floor, 2u);
  EXPECT_EQ(store_->counters().corrupt_l3, 0u);
  SetFloor(3);
  EXPECT_OK(store_->Read(Key(2, 5), 0, 0));
}

TEST_F(CodecPolicyTest, AnExactCopyIsAnswerEnoughWhereALossyOneIsBelowTheFloor) {
  Calibrate();
  Put(2, 1, BlockOfBook("heldout", 1));
  ASSERT_OK(store_->Flush(scope_));  // L1 exact, L3 lossy
  SetFloor(0);
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadAll(*store_, Key(2, 1)));
  EXPECT_EQ(bytes, BlockOfBook("heldout", 1));
}

TEST_F(CodecPolicyTest, ADeletedSpaceLeavesNoCalibrationThatCameTooLate) {
  Calibrate();
  std::map<std::string, std::string> calibrations;
  const std::string prefix = CalibrationPrefix(scope_).bytes();
  const auto scan = [&] {
    calibrations.clear();
    ASSERT_OK(store_->state().Scan(prefix, PrefixEnd(prefix),
                                   [&](const StoredKey& key, std::string_view value) {
                                     calibrations[key.bytes()] = std::string(value);
                                     return true;
                                   }));
  };
  ASSERT_OK(store_->EraseScope(scope_, std::nullopt).status());
  scan();
  ASSERT_EQ(calibrations.size(), 1u) << "the space is still there";
  StoreBatch late;
  const auto& [key, value] = *calibrations.begin();
  late.Put(StoredKey::FromBytes(key), value);
  late.Log({.kind = OperationKind::kPutCalibration, .key = key, .payload = value});
  ASSERT_OK(spaces_->Remove(scope_.tenant, scope_.space));
  // Somebody who had a part of it just then.
  ASSERT_OK(store_->state().Apply(late, /*sync=*/true));
  ASSERT_OK(store_->EraseScope(scope_, std::nullopt).status());
  scan();
  EXPECT_TRUE(calibrations.empty());
}

TEST_F(CodecPolicyTest, WhatComesBackToL1StaysAsItWasKept) {
  Calibrate();
  PutBook(2, "heldout", 4);
  FillL1();
  ASSERT_OK_AND_ASSIGN(const PartRead before, store_->Read(Key(2, 2), 0, 0));
  ASSERT_EQ(before.level, Level::kL2);
  for (int i = 0; i < 12; ++i) ASSERT_OK(store_->Read(Key(2, 2), 0, 0));
  MoveAll(*store_);
  ASSERT_OK_AND_ASSIGN(const PartRead after, store_->Read(Key(2, 2), 0, 0));
  EXPECT_EQ(after.level, Level::kL1);
  EXPECT_EQ(after.fidelity, before.fidelity);
  EXPECT_EQ(after.bytes.ToString(), before.bytes.ToString());
}

TEST_F(CodecPolicyTest, ADamagedLossyCopyIsAMiss) {
  Calibrate();
  PutBook(2, "heldout", 2);
  ASSERT_OK(store_->Flush(scope_));
  // The calibration that its sections name is not there any more.
  StoreBatch batch;
  const std::string prefix = CalibrationPrefix(scope_).bytes();
  ASSERT_OK(
      store_->state().Scan(prefix, PrefixEnd(prefix), [&](const StoredKey& key, std::string_view) {
        batch.Delete(key);
        return true;
      }));
  ASSERT_EQ(batch.writes().size(), 1u);
  batch.Log({.kind = OperationKind::kPutCalibration});
  ASSERT_OK(store_->state().Apply(batch, true));
  Open();
  EXPECT_THAT(store_->Read(Key(2, 1), 0, 0),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("calibration")));
  EXPECT_THAT(store_->Read(Key(2, 1), 0, 0), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(CodecPolicyTest, CalibrationsGoWithTheirSpace) {
  Calibrate();
  const std::string prefix = CalibrationPrefix(scope_).bytes();
  const auto count = [&] {
    int found = 0;
    EXPECT_OK(
        store_->state().Scan(prefix, PrefixEnd(prefix), [&](const StoredKey&, std::string_view) {
          ++found;
          return true;
        }));
    return found;
  };
  EXPECT_EQ(count(), 1);
  ASSERT_OK(store_->EraseScope(scope_, std::nullopt));
  ASSERT_OK(spaces_->Remove(scope_.tenant, scope_.space));
  EXPECT_EQ(count(), 0);
}

}  // namespace
}  // namespace mnemo
