// The entropy coder: what was put is taken, at the cost that its tables promise.
#include "storage/codec/symbol_coder.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/support/status_matchers.h"

namespace mnemo::codec {
namespace {

using Bytes = std::vector<uint8_t>;

// 2 * half + 1 symbols, each half as frequent as its neighbour nearer to 0, or nearly.
SymbolTable Peaked(int half) {
  std::vector<uint16_t> frequencies(2 * static_cast<size_t>(half) + 1, 1);
  uint32_t left = kFrequencySum - static_cast<uint32_t>(frequencies.size());
  for (int away = half; away > 0; --away) {
    const auto more = static_cast<uint16_t>(away < 11 ? kFrequencySum >> (away + 2) : 0);
    frequencies[static_cast<size_t>(half - away)] += more;
    frequencies[static_cast<size_t>(half + away)] += more;
    left -= 2 * more;
  }
  frequencies[static_cast<size_t>(half)] += static_cast<uint16_t>(left);
  return SymbolTable(frequencies);
}

// Codes of `tokens` tokens for each slot, tile by tile: [tile][slot][kTileTokens].
std::vector<int16_t> RandomCodes(std::span<const SymbolSlot> slots, size_t tokens, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int16_t> codes;
  for (size_t first = 0; first < tokens; first += kTileTokens) {
    for (const SymbolSlot& slot : slots) {
      for (size_t t = 0; t < kTileTokens; ++t) {
        // A symbol as often as its table says.
        const uint32_t symbol = slot.table->symbols()[random() % kFrequencySum];
        const int below = static_cast<int>(random() & ((1U << slot.raw_bits) - 1));
        codes.push_back(static_cast<int16_t>(
            (static_cast<int>(symbol) - slot.zero) * (1 << slot.raw_bits) + below));
      }
    }
  }
  return codes;
}

Bytes Put(std::span<const SymbolSlot> slots, size_t tokens, std::span<const int16_t> codes) {
  SymbolEncoder encoder;
  for (size_t first = 0; first < tokens; first += kTileTokens) {
    for (const SymbolSlot& slot : slots) {
      encoder.Put(slot, codes.first(kTileTokens), std::min(kTileTokens, tokens - first));
      codes = codes.subspan(kTileTokens);
    }
  }
  std::vector<uint16_t> words;
  encoder.Finish(LanesOf(tokens), words);
  Bytes bytes(words.size() * 2);
  for (size_t i = 0; i < words.size(); ++i) StoreLittle(bytes.data() + 2 * i, words[i]);
  return bytes;
}

std::vector<int16_t> Take(std::span<const SymbolSlot> slots, size_t tokens, ByteView stream) {
  SymbolDecoder decoder(stream, LanesOf(tokens));
  std::vector<int16_t> codes;
  std::vector<int16_t> tile(slots.size() * kTileTokens);
  for (size_t first = 0; first < tokens; first += kTileTokens) {
    decoder.Take(slots, std::min(kTileTokens, tokens - first), tile.data());
    codes.insert(codes.end(), tile.begin(), tile.end());
  }
  return codes;
}

TEST(SymbolCoderTest, TakesWhatWasPut) {
  const SymbolTable narrow = Peaked(2), wide = Peaked(31), one({{uint16_t{kFrequencySum}}});
  const std::vector<SymbolSlot> slots = {
      {&narrow, 2, 0}, {&wide, 31, 0}, {&wide, 31, 10}, {&one, 0, 0}, {&narrow, 2, 3}};
  for (const size_t tokens : {1u, 5u, 8u, 12u, 16u, 17u, 40u, 256u}) {
    const std::vector<int16_t> codes = RandomCodes(slots, tokens, tokens);
    const std::vector<int16_t> taken = Take(slots, tokens, Put(slots, tokens, codes));
    ASSERT_EQ(taken.size(), codes.size());
    for (size_t i = 0; i < codes.size(); ++i) {
      const size_t tile = i / (slots.size() * kTileTokens);
      if (tile * kTileTokens + i % kTileTokens >= tokens) continue;
      ASSERT_EQ(taken[i], codes[i]) << tokens << " " << i;
    }
  }
}

TEST(SymbolCoderTest, CostsWhatTheFrequenciesPromise) {
  const SymbolTable table = Peaked(3);
  const std::vector<SymbolSlot> slots(20, {&table, 3, 2});
  constexpr size_t kTokens = 1024;
  const std::vector<int16_t> codes = RandomCodes(slots, kTokens, 1);
  double bits = 2.0 * static_cast<double>(codes.size());
  for (const int16_t code : codes) {
    bits -= std::log2(table.frequencies()[static_cast<size_t>((code >> 2) + 3)] /
                      static_cast<double>(kFrequencySum));
  }
  const double spent = 8.0 * static_cast<double>(Put(slots, kTokens, codes).size());
  EXPECT_NEAR(spent / bits, 1, 0.005);
}

TEST(SymbolCoderTest, TakesAnythingFromDamagedStreamsButNothingBesides) {
  const SymbolTable narrow = Peaked(2), wide = Peaked(31);
  const std::vector<SymbolSlot> slots = {{&narrow, 2, 0}, {&wide, 31, 10}};
  const Bytes good = Put(slots, 64, RandomCodes(slots, 64, 2));
  std::mt19937_64 random(3);
  for (size_t size = 0; size < good.size(); ++size) {
    // On the heap, so that a sanitizer sees a read behind it.
    Bytes bad(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
    for (int flips = 0; flips < 3 && size != 0; ++flips) {
      bad[random() % size] = static_cast<uint8_t>(random());
    }
    for (const int16_t code : Take(slots, 64, bad)) ASSERT_LE(std::abs(code), 1 << 15);
  }
}

TEST(SymbolCoderTest, RefusesFrequenciesThatNoTableHas) {
  EXPECT_TRUE(AreFrequencies(std::vector<uint16_t>{4095, 1}));
  EXPECT_FALSE(AreFrequencies({}));
  EXPECT_FALSE(AreFrequencies(std::vector<uint16_t>{4096, 0}));
  EXPECT_FALSE(AreFrequencies(std::vector<uint16_t>{4095}));
  EXPECT_FALSE(AreFrequencies(std::vector<uint16_t>{4095, 2}));
  EXPECT_FALSE(AreFrequencies(std::vector<uint16_t>(65, 63)));
}

}  // namespace
}  // namespace mnemo::codec
