// What lossy copies err by, as it is seen without reading them all.
#include "storage/block/fidelity_sampler.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "tests/support/model_store_fixture.h"

namespace mnemo {
namespace {

class FidelitySamplerTest : public ModelStoreTest {
 protected:
  // Encoded on disk, and nothing in RAM.
  void SetUp() override {
    ModelStoreTest::SetUp();
    PutBook(1, "calibration");
    ASSERT_OK(store_->Flush(scope_));
    clock_.Advance(std::chrono::seconds(10));
    MoveAll(*store_);
    Open();
  }
  CodecFigures Figures(const std::string& codec) const {
    for (const CodecFigures& each : store_->Codecs()) {
      if (each.codec == codec) return each;
    }
    return {};
  }
  void Sample(int times) {
    for (int i = 0; i < times; ++i) {
      clock_.Advance(FidelitySampler::kPeriod);
      store_->MoveStep();
    }
  }
};

TEST_F(FidelitySamplerTest, SaysWhatTheCopiesErrByWithoutReadingThemAll) {
  EXPECT_FALSE(Figures("rotated4").error.has_value());
  Sample(60);
  const CodecFigures found = Figures("rotated4");
  ASSERT_TRUE(found.error.has_value());
  EXPECT_EQ(found.samples, FidelitySampler::kRemembered);
  double sum = 0;
  for (uint32_t depth = 0; depth < kBlocks; ++depth) {
    sum += store_->Read(Key(1, depth), 0, 0)->fidelity->error;
  }
  EXPECT_NEAR(*found.error, sum / kBlocks, 0.05 * sum / kBlocks);
}

TEST_F(FidelitySamplerTest, OneStepAPeriodAndABoundedOne) {
  store_->MoveStep();
  const uint64_t first = Figures("rotated4").samples;
  EXPECT_GT(first, 0u);
  EXPECT_LE(first, static_cast<uint64_t>(FidelitySampler::kStepSamples));
  clock_.Advance(FidelitySampler::kPeriod - Nanos(1));
  store_->MoveStep();
  EXPECT_EQ(Figures("rotated4").samples, first);
  clock_.Advance(Nanos(1));
  store_->MoveStep();
  EXPECT_GT(Figures("rotated4").samples, first);
}

TEST_F(FidelitySamplerTest, ExactCopiesErrByNothing) {
  const PartKey key = TestPart(9);
  ASSERT_OK(
      PutPart(*store_, key, TestPayload(key, 0, kFiller), TestSpec(kFiller, 0, Durability::kSync)));
  Sample(4);
  EXPECT_GT(Figures("raw").exact_bytes, 0u);
  EXPECT_FALSE(Figures("raw").error.has_value());
}

TEST_F(FidelitySamplerTest, WhatIsNotHereAnyMoreHasNoError) {
  Sample(4);
  SetFloor(0);
  store_->SpaceChanged(scope_);
  clock_.Advance(std::chrono::seconds(10));
  MoveAll(*store_);
  EXPECT_EQ(Figures("rotated4").codec, "");
}

}  // namespace
}  // namespace mnemo
