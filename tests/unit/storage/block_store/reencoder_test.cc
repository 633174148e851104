// Parts are brought into another form where they lie.
#include <gtest/gtest.h>

#include <string>

#include "storage/block/space_codecs.h"
#include "storage/tier/stored_key.h"
#include "tests/support/model_store_fixture.h"

namespace mnemo {
namespace {

class ReencoderTest : public ModelStoreTest {
 protected:
  uint64_t OnL3() const { return store_->Usage(scope_).level_bytes[2]; }
  uint64_t InL2() const { return store_->Usage(scope_).level_bytes[1]; }
  void SetFloorAndSay(uint32_t bits) {
    SetFloor(bits);
    store_->SpaceChanged(scope_);
  }
  // All that is to do, whatever rests.
  void LookThrough() {
    clock_.Advance(std::chrono::seconds(10));
    MoveAll(*store_);
  }
  // Of `blocks` of a chain, how many are encoded; what is not is as it was put, and what is
  // errs as much as it says.
  int Encoded(uint64_t chain, const std::string& book, uint32_t blocks) {
    int encoded = 0;
    for (uint32_t depth = 0; depth < blocks; ++depth) {
      const std::string exact = BlockOfBook(book, depth);
      const auto read = store_->Read(Key(chain, depth), 0, 0);
      EXPECT_OK(read);
      if (!read.ok()) continue;
      const std::string bytes = read->bytes.ToString();
      if (read->fidelity) {
        ++encoded;
        EXPECT_LT(RelativeError(exact, bytes), 0.15) << depth;
      } else {
        EXPECT_EQ(bytes, exact) << depth;
      }
    }
    return encoded;
  }
};

TEST_F(ReencoderTest, WhatStayedExactUntilItsGroupWasCalibratedFollows) {
  PutBook(1, "calibration");
  ASSERT_OK(store_->Flush(scope_));
  const uint64_t before = OnL3();
  EXPECT_GT(before, kBlocks * kBlockBytes - kBlockBytes);  // but for the last block
  EXPECT_TRUE(store_->ReencodingOf(scope_).under_way);
  LookThrough();
  EXPECT_FALSE(store_->ReencodingOf(scope_).under_way);
  EXPECT_LT(OnL3(), before * 10 / 35);
  EXPECT_EQ(store_->counters().reencoded, kBlocks - 1);
  Open();
  EXPECT_EQ(Encoded(1, "calibration", kBlocks), static_cast<int>(kBlocks));
}

TEST_F(ReencoderTest, ALoweredFloorIsAppliedToL2AndToDisk) {
  SetFloor(0);
  PutBook(1, "calibration");
  PutBook(2, "heldout", 16);
  ASSERT_OK(store_->Flush(scope_));
  FillL1();
  const uint64_t l2 = InL2();
  const uint64_t l3 = OnL3();
  ASSERT_GT(l2, 40 * kBlockBytes / 2);
  SetFloorAndSay(4);
  LookThrough();
  LookThrough();                    // what was calibrated by the first
  EXPECT_LT(InL2(), l2 * 10 / 19);  // they were encoded losslessly there
  EXPECT_LT(OnL3(), l3 * 10 / 35);
  EXPECT_EQ(Encoded(2, "heldout", 16), 16);
}

TEST_F(ReencoderTest, ARaisedFloorDropsWithoutAnyRead) {
  Calibrate();
  PutBook(2, "heldout", 8);
  ASSERT_OK(store_->Flush(scope_));
  Open();
  LookThrough();
  ASSERT_EQ(store_->Usage(scope_).parts, kBlocks + 8);
  const uint64_t reencoded = store_->counters().reencoded;
  SetFloorAndSay(5);
  LookThrough();
  EXPECT_EQ(store_->Usage(scope_).parts, 0u);
  EXPECT_EQ(store_->counters().below_floor, kBlocks + 8);
  EXPECT_EQ(store_->counters().reencoded, reencoded) << "what is dropped is no other form";
}

TEST_F(ReencoderTest, DurablePutsAreEncodedBehindTheirAnswer) {
  Calibrate();
  LookThrough();
  const uint64_t before = OnL3();
  PutBook(2, "heldout", 8, Durability::kSync);
  EXPECT_GE(OnL3() - before, 8 * kBlockBytes);
  LookThrough();
  EXPECT_LT(OnL3() - before, 8 * kBlockBytes * 10 / 32);
  EXPECT_EQ(Encoded(2, "heldout", 8), 0);  // L1 has them as they were put
  Open();
  EXPECT_EQ(Encoded(2, "heldout", 8), 8);
}

TEST_F(ReencoderTest, ARaisedFloorKeepsOnDiskWhatIsExactInL1) {
  Calibrate();
  LookThrough();
  const uint64_t before = OnL3();
  PutBook(2, "heldout", 8, Durability::kSync);
  LookThrough();
  EXPECT_LT(OnL3() - before, 8 * kBlockBytes / 2);
  SetFloorAndSay(0);
  LookThrough();
  EXPECT_GE(OnL3(), 8 * kBlockBytes);
  Open();
  for (uint32_t depth = 0; depth < 8; ++depth) {
    const auto read = store_->Read(Key(2, depth), 0, 0);
    ASSERT_OK(read);
    EXPECT_EQ(read->bytes.ToString(), BlockOfBook("heldout", depth));
  }
}

TEST_F(ReencoderTest, WhatLiesBelowItsFloorIsPutAnew) {
  Calibrate();
  Put(2, 0, BlockOfBook("heldout", 0), Durability::kSync);
  LookThrough();
  Open();
  ASSERT_EQ(Encoded(2, "heldout", 1), 1);
  EXPECT_FALSE(store_->Describe(Key(2, 0))->below_floor);
  SetFloor(0);
  EXPECT_TRUE(store_->Describe(Key(2, 0))->below_floor);
  Put(2, 0, BlockOfBook("heldout", 0), Durability::kSync);
  EXPECT_FALSE(store_->Describe(Key(2, 0))->below_floor);
  Open();
  EXPECT_EQ(Encoded(2, "heldout", 1), 0);
}

TEST_F(ReencoderTest, ADamagedCalibrationCostsNoExactPart) {
  Calibrate();
  LookThrough();
  PutBook(2, "heldout", 8, Durability::kSync);
  StoreBatch damage;
  const std::string prefix = CalibrationPrefix(scope_).bytes();
  ASSERT_OK(store_->state().Scan(
      prefix, PrefixEnd(prefix), [&](const StoredKey& key, std::string_view value) {
        damage.Put(key, std::string(value.size(), 'x'));
        damage.Log({.kind = OperationKind::kPutCalibration, .key = key.bytes()});
        return true;
      }));
  ASSERT_OK(store_->state().Apply(damage, /*sync=*/false));
  Open();
  LookThrough();
  EXPECT_EQ(Encoded(2, "heldout", 8), 0);
}

TEST_F(ReencoderTest, OneStepIsBoundedAndSaysHowFarItCame) {
  SetFloor(0);
  PutBook(1, "calibration");
  for (uint64_t chain = 2; chain < 8; ++chain) PutBook(chain, "heldout");
  ASSERT_OK(store_->Flush(scope_));
  SetFloorAndSay(4);
  clock_.Advance(std::chrono::seconds(10));
  ASSERT_TRUE(store_->MoveStep());
  const Reencoding after = store_->ReencodingOf(scope_);
  EXPECT_TRUE(after.under_way);
  EXPECT_EQ(after.looked_at, 64u);
  EXPECT_EQ(after.parts, 7 * kBlocks);
  EXPECT_LE(store_->counters().reencoded, 64u);
}

TEST_F(ReencoderTest, AnExactSpaceIsNotLookedThrough) {
  SetFloor(0);
  PutBook(1, "calibration");
  ASSERT_OK(store_->Flush(scope_));
  store_->SpaceChanged(scope_);
  clock_.Advance(std::chrono::seconds(10));
  EXPECT_FALSE(store_->MoveStep());
  EXPECT_FALSE(store_->ReencodingOf(scope_).under_way);
}

TEST_F(ReencoderTest, ARestartGoesOn) {
  PutBook(1, "calibration");
  ASSERT_OK(store_->Flush(scope_));
  const uint64_t before = OnL3();
  Open();  // before anything was encoded in place
  EXPECT_EQ(OnL3(), before);
  LookThrough();
  EXPECT_LT(OnL3(), before * 10 / 35);
}

}  // namespace
}  // namespace mnemo
