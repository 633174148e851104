#include "storage/tier/block_level.h"

#include <memory>
#include <string>

#include "tests/support/status_matchers.h"

namespace mnemo {
namespace {

PinnedBytes Pin(const std::shared_ptr<std::string>& text) {
  const ByteView bytes = AsBytes(*text);
  return PinnedBytes({bytes.first(3), bytes.subspan(3, 0), bytes.subspan(3, 4), bytes.subspan(7)},
                     text);
}

TEST(PinnedBytesTest, CopiesAndSlicesAcrossPieces) {
  const auto text = std::make_shared<std::string>("0123456789");
  const PinnedBytes pinned = Pin(text);
  EXPECT_EQ(pinned.size(), 10u);
  EXPECT_EQ(pinned.ToString(), "0123456789");
  for (size_t offset = 0; offset <= 10; ++offset) {
    for (size_t size = 0; offset + size <= 10; ++size) {
      EXPECT_EQ(pinned.Slice(offset, size).ToString(), text->substr(offset, size));
      std::string copy(size, ' ');
      pinned.CopyTo(offset, {reinterpret_cast<uint8_t*>(copy.data()), size});
      EXPECT_EQ(copy, text->substr(offset, size));
    }
  }
}

TEST(PinnedBytesTest, ASliceKeepsTheBytesAlive) {
  auto text = std::make_shared<std::string>("0123456789");
  const std::weak_ptr<std::string> alive = text;
  PinnedBytes slice;
  {
    const PinnedBytes whole = Pin(text);
    text.reset();
    slice = whole.Slice(2, 3);
  }
  EXPECT_FALSE(alive.expired());
  EXPECT_EQ(slice.ToString(), "234");
  slice = PinnedBytes();
  EXPECT_TRUE(alive.expired());
}

TEST(LevelLabelTest, IsWhatMetricsSay) {
  EXPECT_EQ(LevelLabel(Level::kL1), "l1_ram");
  EXPECT_EQ(LevelLabel(Level::kL2), "l2_ram");
  EXPECT_EQ(LevelLabel(Level::kL3), "l3_disk");
  EXPECT_EQ(LevelLabel(Level::kDisk), "archive");
}

}  // namespace
}  // namespace mnemo
