// Spaces of few bits learn axes, and take the transform form where it is better.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "storage/block/space_codecs.h"
#include "tests/support/model_store_fixture.h"

namespace mnemo {
namespace {

class AxesTest : public ModelStoreTest {
 protected:
  void SetUp() override {
    Open();
    MakeSpace(2);
  }
  // 4,096 tokens, the two books twice.
  void CalibrateWithAxes() {
    for (const uint64_t chain : {11, 12}) PutBook(chain, "calibration");
    for (const uint64_t chain : {13, 14}) PutBook(chain, "heldout");
    ASSERT_OK(store_->Flush(scope_));
  }
  void LookThrough() {
    clock_.Advance(std::chrono::seconds(10));
    MoveAll(*store_);
  }
  std::string CodecAt(uint64_t chain, uint32_t depth) {
    const auto state = store_->Describe(Key(chain, depth));
    return state ? state->codec : "missing";
  }
  // Of the records that the space has, by key.
  std::map<std::string, std::string> Records() {
    std::map<std::string, std::string> records;
    const std::string prefix = CalibrationPrefix(scope_).bytes();
    EXPECT_OK(store_->state().Scan(prefix, PrefixEnd(prefix),
                                   [&](const StoredKey& key, std::string_view value) {
                                     records[key.bytes()] = std::string(value);
                                     return true;
                                   }));
    return records;
  }
  // Mean error and bits of blocks of a chain, which all have to be in `codec`.
  struct Kept {
    double error = 0;
    double bits = 0;
  };
  Kept KeptOf(uint64_t chain, const std::string& book, const std::string& codec) {
    constexpr uint32_t kLooked = 16;
    Kept kept;
    for (uint32_t depth = 1; depth <= kLooked; ++depth) {
      const auto read = store_->Read(Key(chain, depth), 0, 0);
      EXPECT_OK(read);
      if (!read.ok() || !read->fidelity) continue;
      EXPECT_EQ(read->fidelity->codec, codec) << depth;
      const double error = RelativeError(BlockOfBook(book, depth), read->bytes.ToString());
      EXPECT_NEAR(error, read->fidelity->error, 1e-2 * error);
      kept.error += error / kLooked;
      kept.bits += read->fidelity->bits_per_value / kLooked;
    }
    return kept;
  }
};

TEST_F(AxesTest, AGroupOfFewBitsStaysExactUntilItHasAxes) {
  for (const uint64_t chain : {11, 12, 13}) PutBook(chain, "calibration");
  PutBook(14, "heldout", kBlocks - 1);
  ASSERT_OK(store_->Flush(scope_));
  EXPECT_TRUE(Records().empty()) << "a block is missing to 4,096 tokens";
  EXPECT_EQ(CodecAt(11, 1), "raw");
  PutBook(15, "heldout", 1);
  ASSERT_OK(store_->Flush(scope_));
  const auto records = Records();
  ASSERT_EQ(records.size(), 1u);
  const auto calibration = Calibration::Parse(AsBytes(records.begin()->second));
  ASSERT_OK(calibration);
  EXPECT_TRUE((*calibration)->has_axes());
}

TEST_F(AxesTest, EveryLevelKeepsTheTransformFormAndARestartFindsIt) {
  CalibrateWithAxes();
  LookThrough();
  PutBook(2, "heldout", 20);
  FillL1();
  ASSERT_EQ(store_->Read(Key(2, 3), 0, 0)->level, Level::kL2);
  EXPECT_GT(KeptOf(2, "heldout", "transform2").error, 0.05);
  ASSERT_OK(store_->Flush(scope_));
  Open();
  ASSERT_EQ(store_->Read(Key(2, 3), 0, 0)->level, Level::kL3);
  KeptOf(2, "heldout", "transform2");
  KeptOf(11, "calibration", "transform2");
  // What comes after the restart is measured again, with the axes that were kept.
  PutBook(3, "calibration", 4);
  ASSERT_OK(store_->Flush(scope_));
  Open();
  EXPECT_EQ(CodecAt(3, 2), "transform2");
  EXPECT_EQ(Records().size(), 1u);
}

TEST_F(AxesTest, TheTransformFormErrsLessThanTheRotatedOneDid) {
  // Of the other book: what is kept has not been learnt from.
  for (const uint64_t chain : {11, 12, 13, 14}) PutBook(chain, "calibration");
  ASSERT_OK(store_->Flush(scope_));
  PutBook(2, "heldout", 20);
  ASSERT_OK(store_->Flush(scope_));
  Open();
  const Kept axes = KeptOf(2, "heldout", "transform2");
  // The same blocks in the form of a group that does without axes.
  const auto model = ::mnemo::testing::CapturedModels()[0];
  const auto calibration = ::mnemo::testing::CalibrationOf(MNEMO_TEST_DATA, model);
  double rotated = 0;
  for (uint32_t depth = 1; depth <= 16; ++depth) {
    EncodingError lost;
    for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
      const auto block =
          ::mnemo::testing::LoadCaptured(MNEMO_TEST_DATA, model, "heldout", role, kTokens, depth);
      lost.Add(::mnemo::testing::Encode(CodecId::kRotated, 2, block.shape, block.bytes,
                                        calibration.get())
                   .facts.error);
    }
    rotated += lost.relative() / 16;
  }
  EXPECT_LT(axes.error, 0.75 * rotated);
  EXPECT_LT(axes.bits, 2.8);
}

TEST_F(AxesTest, OneThatWasCalibratedForMoreBitsLearnsAxesBesides) {
  SetFloor(4);
  Calibrate();
  PutBook(2, "heldout", 4);
  ASSERT_OK(store_->Flush(scope_));
  LookThrough();
  Open();
  ASSERT_EQ(CodecAt(2, 2), "rotated4");
  SetFloor(2);
  store_->SpaceChanged(scope_);
  // By itself: which part of a flush brings the last token, and so has axes, is not said.
  PutBook(13, "heldout");
  ASSERT_OK(store_->Flush(scope_));
  for (const uint64_t chain : {11, 12}) PutBook(chain, "calibration");
  PutBook(14, "heldout");
  ASSERT_OK(store_->Flush(scope_));
  LookThrough();
  Open();
  EXPECT_EQ(Records().size(), 2u);
  // What lost something is not encoded again, and both calibrations are there.
  EXPECT_EQ(CodecAt(2, 2), "rotated4");
  EXPECT_OK(store_->Read(Key(2, 2), 0, 0));
  // What came meanwhile was learnt from and has the statistics' form.
  KeptOf(13, "heldout", "rotated2");
  PutBook(3, "heldout", 20);
  ASSERT_OK(store_->Flush(scope_));
  Open();
  KeptOf(3, "heldout", "transform2");
}

TEST_F(AxesTest, WhatCannotBeMeasuredEightTimesHasNoAxes) {
  CalibrateWithAxes();
  LookThrough();
  // Nothing is known of forms after a restart, and these stay exact: they are not numbers.
  Open();
  const std::string not_numbers(kBlockBytes, '\xff');
  static_assert(SpaceCodecs::kMostVainTrials == 8);
  for (uint32_t depth = 0; depth < 8; ++depth) Put(2, depth, not_numbers);
  ASSERT_OK(store_->Flush(scope_));
  PutBook(3, "heldout", 20);
  ASSERT_OK(store_->Flush(scope_));
  Open();
  KeptOf(3, "heldout", "rotated2");
}

TEST_F(AxesTest, LevelsOfDifferentBitsTakeNoAxes) {
  SetPolicy({.floor_bits_per_value = 2, .level_bits = {.l2 = 3, .l3 = 2}});
  Calibrate();
  const auto records = Records();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_FALSE((*Calibration::Parse(AsBytes(records.begin()->second)))->has_axes());
}

TEST_F(AxesTest, ADamagedCalibrationIsAMissAndNeverWrongBytes) {
  CalibrateWithAxes();
  PutBook(2, "heldout", 4);
  ASSERT_OK(store_->Flush(scope_));
  auto records = Records();
  ASSERT_EQ(records.size(), 1u);
  std::string value = records.begin()->second;
  value[value.size() / 2] ^= 1;
  StoreBatch damage;
  const StoredKey key = StoredKey::FromBytes(records.begin()->first);
  damage.Put(key, value);
  damage.Log({.kind = OperationKind::kPutCalibration, .key = key.bytes()});
  ASSERT_OK(store_->state().Apply(damage, /*sync=*/true));
  Open();
  ASSERT_EQ(CodecAt(2, 2), "transform2");
  EXPECT_FALSE(store_->Read(Key(2, 2), 0, 0).ok());
}

TEST_F(AxesTest, ADeletedSpaceTakesItsAxesAlong) {
  CalibrateWithAxes();
  ASSERT_EQ(Records().size(), 1u);
  ASSERT_OK(spaces_->Remove(scope_.tenant, scope_.space));
  ASSERT_OK(store_->EraseScope(scope_, std::nullopt).status());
  EXPECT_TRUE(Records().empty());
}

// A group of one layer and head.
Space WideSpace(KeyScope scope, uint32_t k_dimension, uint32_t v_dimension) {
  Space space{.scope = scope, .spec = ModelSpec(2)};
  Group& group = space.spec.groups[0];
  group.layers = 1;
  group.kv_heads = 1;
  group.k_dimension = k_dimension;
  group.v_dimension = v_dimension;
  group.rope.reset();
  return space;
}

class AxesBoundsTest : public AxesTest {
 protected:
  // As many tokens of the group as are asked for, as one part. `meanwhile` is called when the
  // first of them are asked for.
  void Learn(
      const Space& space, uint32_t tokens, CalibrationKind wanted = CalibrationKind::kAxes,
      const std::function<void()>& meanwhile = [] {}) {
    ASSERT_OK(codecs().CalibrationsOf(space.scope).status());
    std::vector<TensorShape> shapes;
    std::vector<std::vector<uint8_t>> exact;
    for (const TensorRole role : {TensorRole::kKeys, TensorRole::kValues}) {
      const Group& group = space.spec.groups[0];
      shapes.push_back(
          {.role = role,
           .dtype = DType::kF16,
           .layers = 1,
           .tokens = tokens,
           .heads = 1,
           .dimension = role == TensorRole::kKeys ? group.k_dimension : group.v_dimension});
      exact.push_back(::mnemo::testing::NormalTensor(shapes.back(), tokens));
    }
    ASSERT_OK(codecs().Learn(space, 0, wanted, shapes, [&](uint32_t i) {
      if (i == 0) meanwhile();
      return ByteView(exact[i]);
    }));
  }
  // The kind that the group has got; none: no calibration.
  std::optional<CalibrationKind> KindOf(const Space& space) {
    const auto known = codecs().OfGroup(space.scope, 0, CalibrationKind::kAxes);
    EXPECT_OK(known);
    if (!known.ok() || !*known || (*known)->calibration == nullptr) return std::nullopt;
    return (*known)->calibration->has_axes() ? CalibrationKind::kAxes
                                             : CalibrationKind::kStatistics;
  }
  SpaceCodecs& codecs() {
    if (!codecs_) codecs_.emplace(store_->state(), clock_);
    return *codecs_;
  }
  void Restart() { codecs_.reset(); }
  // So many of these learn axes at once; 17 MiB each.
  static constexpr uint64_t kMostWide =
      SpaceCodecs::kMostAxesLearningBytes / (2 * 1024 * (48 + 8 * 1024 + 512));
  static Space Wide(uint64_t i) { return WideSpace({7, 200 + i}, 1024, 1024); }

 private:
  std::optional<SpaceCodecs> codecs_;
};

TEST_F(AxesBoundsTest, OneWhoseAxesAreTooDearLearnsStatistics) {
  // More dimensions than there can be axes of; more bytes than a calibration may have.
  const Space wide = WideSpace({7, 101}, 1025, 16);
  Space many = WideSpace({7, 102}, 64, 64);
  many.spec.groups[0].kv_heads = 600;
  Learn(wide, 1023);
  EXPECT_EQ(KindOf(wide), std::nullopt);
  Learn(wide, 1);
  EXPECT_EQ(KindOf(wide), CalibrationKind::kStatistics);
  for (int i = 0; i < 2; ++i) Learn(many, 512);
  // Only one of its heads was seen: not even those, but it waits for nothing any more.
  const auto known = codecs().OfGroup(many.scope, 0, CalibrationKind::kAxes);
  ASSERT_OK(known);
  ASSERT_TRUE(known->has_value());
  EXPECT_EQ((*known)->calibration, nullptr);
}

TEST_F(AxesBoundsTest, WhereTooManyLearnAxesTheNextLearnsStatistics) {
  for (uint64_t i = 0; i < kMostWide; ++i) Learn(Wide(i), 1);
  const Space next = Wide(kMostWide);
  Learn(next, 1024);
  EXPECT_EQ(KindOf(next), CalibrationKind::kStatistics);
  // One that goes makes room.
  codecs().Forget(Wide(0).scope);
  const Space later = Wide(kMostWide + 1);
  Learn(later, 1024);
  EXPECT_EQ(KindOf(later), std::nullopt) << "it learns axes";
}

TEST_F(AxesBoundsTest, OneThatFoundNoRoomAsksAgainWithItsNextPart) {
  for (uint64_t i = 0; i < kMostWide; ++i) Learn(Wide(i), 1);
  const Space next = Wide(kMostWide);
  Learn(next, 1024);
  ASSERT_EQ(KindOf(next), CalibrationKind::kStatistics);
  codecs().Forget(Wide(0).scope);
  Learn(next, 1);
  const Space later = Wide(kMostWide + 1);
  Learn(later, 1024);
  EXPECT_EQ(KindOf(later), CalibrationKind::kStatistics) << "the room is taken";
}

TEST_F(AxesBoundsTest, StatisticsServeUntilThereAreAxesEvenAfterARestart) {
  const Space space = WideSpace({7, 400}, 16, 16);
  Learn(space, 1024, CalibrationKind::kStatistics);
  Restart();
  EXPECT_EQ(KindOf(space), CalibrationKind::kStatistics);
  EXPECT_FALSE((*codecs().OfGroup(space.scope, 0, CalibrationKind::kAxes))->is_final);
  Learn(space, 4095);
  EXPECT_EQ(KindOf(space), CalibrationKind::kStatistics);
  Learn(space, 1);
  EXPECT_EQ(KindOf(space), CalibrationKind::kAxes);
  EXPECT_TRUE((*codecs().OfGroup(space.scope, 0, CalibrationKind::kAxes))->is_final);
}

TEST_F(AxesBoundsTest, WhatIsLearntOfTheOtherKindIsGivenUp) {
  for (uint64_t i = 0; i < kMostWide; ++i) Learn(Wide(i), 1);
  // Its policy has 4 bits now.
  Learn(Wide(0), 1, CalibrationKind::kStatistics);
  const Space next = Wide(kMostWide);
  Learn(next, 1024);
  EXPECT_EQ(KindOf(next), std::nullopt) << "it learns axes";
  const Space space = WideSpace({7, 400}, 16, 16);
  Learn(space, 1023, CalibrationKind::kStatistics);
  Learn(space, 1, CalibrationKind::kAxes);
  Learn(space, 1, CalibrationKind::kStatistics);
  EXPECT_EQ(KindOf(space), std::nullopt);
}

TEST_F(AxesBoundsTest, TheLongestIdleGivesWayToOneThatFindsNoRoom) {
  for (uint64_t i = 0; i < kMostWide; ++i) Learn(Wide(i), 1);
  clock_.Advance(SpaceCodecs::kIdle - std::chrono::nanoseconds(1));
  Learn(Wide(0), 1);
  const Space early = Wide(kMostWide);
  Learn(early, 1024);
  EXPECT_EQ(KindOf(early), CalibrationKind::kStatistics);
  clock_.Advance(std::chrono::nanoseconds(1));
  for (uint64_t i = 1; i < kMostWide; ++i) {
    const Space next = Wide(kMostWide + i);
    Learn(next, 1024);
    EXPECT_EQ(KindOf(next), std::nullopt) << "it learns axes: " << i;
  }
  // Nobody else is idle.
  const Space late = Wide(2 * kMostWide);
  Learn(late, 1024);
  EXPECT_EQ(KindOf(late), CalibrationKind::kStatistics);
}

TEST_F(AxesBoundsTest, TheLeastRecentlyFedGoesFirst) {
  // Half of what groups may take that learn statistics; only one of its heads is seen, so it is
  // known in the end that the group does without.
  const auto half = [](uint64_t i) {
    Space space = WideSpace({7, 500 + i}, 16, 16);
    space.spec.groups[0].layers = 16;
    space.spec.groups[0].kv_heads = 1024;
    return space;
  };
  const auto is_known = [&](uint64_t i) {
    return (*codecs().OfGroup(half(i).scope, 0, CalibrationKind::kAxes)).has_value();
  };
  Learn(half(0), 512);
  Learn(half(1), 512);
  clock_.Advance(std::chrono::nanoseconds(1));
  Learn(half(0), 1);
  clock_.Advance(SpaceCodecs::kIdle);
  Learn(half(2), 1024);
  EXPECT_TRUE(is_known(2));
  Learn(half(0), 511);
  Learn(half(1), 512);
  EXPECT_TRUE(is_known(0)) << "it kept what it had";
  EXPECT_FALSE(is_known(1));
}

TEST_F(AxesBoundsTest, OneThatIsAddedToDoesNotGiveWay) {
  for (uint64_t i = 0; i < kMostWide; ++i) Learn(Wide(i), 1);
  const Space next = Wide(kMostWide);
  Learn(Wide(0), 1, CalibrationKind::kAxes, [&] {
    std::thread([&] {
      clock_.Advance(SpaceCodecs::kIdle);
      for (uint64_t i = 1; i < kMostWide; ++i) Learn(Wide(i), 1);
      Learn(next, 1024);
    }).join();
  });
  EXPECT_EQ(KindOf(next), CalibrationKind::kStatistics);
}

TEST_F(AxesBoundsTest, TheFirstChoiceCountsUntilTheSpaceGoes) {
  const KeyScope scope{7, 400};
  const auto axes = StoredForm::kTransform2;
  codecs().Choose(scope, 0, axes, axes);
  EXPECT_EQ(codecs().ChoiceOf(scope, 0, axes), std::nullopt) << "nobody knows the space";
  ASSERT_OK(codecs().CalibrationsOf(scope).status());
  EXPECT_EQ(codecs().Choose(scope, 0, axes, StoredForm::kRotated2), StoredForm::kRotated2);
  EXPECT_EQ(codecs().Choose(scope, 0, axes, axes), StoredForm::kRotated2)
      << "who comes second takes the form that the first chose";
  EXPECT_EQ(codecs().ChoiceOf(scope, 0, axes), StoredForm::kRotated2);
  EXPECT_EQ(codecs().ChoiceOf(scope, 1, axes), std::nullopt);
  EXPECT_EQ(codecs().ChoiceOf(scope, 0, StoredForm::kTransform3), std::nullopt);
  codecs().Forget(scope);
  ASSERT_OK(codecs().CalibrationsOf(scope).status());
  EXPECT_EQ(codecs().ChoiceOf(scope, 0, axes), std::nullopt);
}

TEST_F(AxesBoundsTest, TrialsInVainEndInTheFormWithoutAxes) {
  const KeyScope scope{7, 400};
  const auto axes = StoredForm::kTransform2;
  ASSERT_OK(codecs().CalibrationsOf(scope).status());
  for (uint32_t i = 1; i < SpaceCodecs::kMostVainTrials; ++i) {
    codecs().CountVainTrial(scope, 0, axes, StoredForm::kRotated2);
    codecs().CountVainTrial(scope, 1, axes, StoredForm::kRotated2);
  }
  EXPECT_EQ(codecs().ChoiceOf(scope, 0, axes), std::nullopt);
  codecs().CountVainTrial(scope, 0, axes, StoredForm::kRotated2);
  EXPECT_EQ(codecs().ChoiceOf(scope, 0, axes), StoredForm::kRotated2);
  // What was measured before that stays.
  codecs().Choose(scope, 1, axes, axes);
  codecs().CountVainTrial(scope, 1, axes, StoredForm::kRotated2);
  EXPECT_EQ(codecs().ChoiceOf(scope, 1, axes), axes);
}

}  // namespace
}  // namespace mnemo
