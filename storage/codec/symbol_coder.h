// An entropy coder of small symbols with fixed frequencies: range asymmetric numeral
// systems (rANS; Duda 2013), interleaved (Giesen 2014); private to this room.
//
// Tokens are coded in tiles of kTileTokens, slot by slot: a slot is a symbol of
// each token of the tile, from one table, and perhaps some bits below it as they
// are. Token t of a tile belongs to lane t mod kSymbolLanes, each with a state of its own,
// so that a processor works on several symbols at once; all lanes share one sequence of
// 16-bit words. docs/formats/tensor-section.md has the bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/codec/row_kernels.h"

namespace mnemo::codec {

inline constexpr size_t kSymbolLanes = 8;
// Frequencies of a table add up to this.
inline constexpr uint32_t kFrequencyBits = 12;
inline constexpr uint32_t kFrequencySum = 1U << kFrequencyBits;
inline constexpr size_t kMostSymbols = 64;
// Below a symbol, as they are.
inline constexpr uint32_t kMostRawBits = 10;

// Whether a table can be made of these: 1 to kMostSymbols, none 0, kFrequencySum together.
bool AreFrequencies(std::span<const uint16_t> frequencies);

// Immutable, thread-safe. 4.3 KiB: the tables of a head's slots are to stay in a core's nearest
// cache.
class SymbolTable {
 public:
  // AreFrequencies(frequencies).
  explicit SymbolTable(std::span<const uint16_t> frequencies);

  std::span<const uint16_t> frequencies() const { return frequencies_; }
  // By the lowest bits of a state, [kFrequencySum].
  const uint8_t* symbols() const { return symbols_.data(); }
  // By symbol: where its range begins, and how wide it is.
  struct Range {
    uint16_t start;
    uint16_t frequency;
  };
  const Range* ranges() const { return ranges_.data(); }

 private:
  std::vector<uint16_t> frequencies_;
  std::vector<uint8_t> symbols_;
  std::array<Range, kMostSymbols> ranges_ = {};
};

// One symbol of each token of a tile: code = (symbol - zero) x 2^raw_bits + raw bits.
struct SymbolSlot {
  const SymbolTable* table = nullptr;
  int16_t zero = 0;      // the symbol that stands for 0
  uint8_t raw_bits = 0;  // at most kMostRawBits
};

// How many states a stream of so many tokens has.
constexpr size_t LanesOf(uint64_t tokens) {
  return tokens < kSymbolLanes ? static_cast<size_t>(tokens) : kSymbolLanes;
}

// Collects a stream. Not thread-safe.
class SymbolEncoder {
 public:
  // The codes [kTileTokens] of a slot for the first `tokens` tokens of a tile; each has a
  // symbol of the slot's table.
  void Put(const SymbolSlot& slot, std::span<const int16_t> codes, size_t tokens);
  // Appends the stream, states first, and forgets what was put. `lanes` is LanesOf of all
  // tokens.
  void Finish(size_t lanes, std::vector<uint16_t>& words);

 private:
  // What a state takes up: a symbol's range, or bits as they are.
  struct Step {
    uint16_t start = 0;  // or the bits
    uint16_t frequency = 0;
    uint8_t raw_bits = 0;
    uint8_t lane = 0;
  };
  std::vector<Step> steps_;  // as a decoder will take them
};

// Reads a stream, which may be damaged: then codes are any, and nothing outside of it
// is read. Not thread-safe.
class SymbolDecoder {
 public:
  SymbolDecoder(ByteView stream, size_t lanes);

  // Of every slot the codes of `tokens` tokens, [slots x kTileTokens]; those of other
  // tokens are left alone.
  void Take(std::span<const SymbolSlot> slots, size_t tokens, int16_t* codes);

 private:
  // Of a slot of a full tile, where the stream has enough left for any codes.
  void TakeQuickly(const SymbolSlot& slot, int16_t* codes);
  void TakeCarefully(const SymbolSlot& slot, size_t tokens, int16_t* codes);
  uint32_t Refilled(uint32_t state);

  std::array<uint32_t, kSymbolLanes> states_ = {};
  const uint8_t* at_;
  const uint8_t* end_;
};

}  // namespace mnemo::codec
