#include "storage/codec/symbol_coder.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace mnemo::codec {
namespace {

// States are 2^12 to 2^28 - 1 between symbols, and take in or give off 16 bits at once.
constexpr uint32_t kLeastState = 1U << 12;
constexpr uint32_t kWordBits = 16;
constexpr uint32_t kStateBits = 28;
constexpr uint32_t kMask = kFrequencySum - 1;
// What a slot of a full tile may read: a word for each symbol and its raw bits.
constexpr ptrdiff_t kPlentyBytes = 2 * 2 * kTileTokens;

}  // namespace

bool AreFrequencies(std::span<const uint16_t> frequencies) {
  if (frequencies.empty() || frequencies.size() > kMostSymbols) return false;
  if (std::find(frequencies.begin(), frequencies.end(), 0) != frequencies.end()) return false;
  return std::accumulate(frequencies.begin(), frequencies.end(), uint32_t{0}) == kFrequencySum;
}

SymbolTable::SymbolTable(std::span<const uint16_t> frequencies)
    : frequencies_(frequencies.begin(), frequencies.end()) {
  symbols_.reserve(kFrequencySum);
  for (size_t symbol = 0; symbol < frequencies_.size(); ++symbol) {
    ranges_[symbol] = {static_cast<uint16_t>(symbols_.size()), frequencies_[symbol]};
    symbols_.insert(symbols_.end(), frequencies_[symbol], static_cast<uint8_t>(symbol));
  }
}

void SymbolEncoder::Put(const SymbolSlot& slot, std::span<const int16_t> codes, size_t tokens) {
  for (size_t token = 0; token < tokens; ++token) {
    const auto symbol = static_cast<uint32_t>((codes[token] >> slot.raw_bits) + slot.zero);
    const SymbolTable::Range range = slot.table->ranges()[symbol];
    steps_.push_back({.start = range.start,
                      .frequency = range.frequency,
                      .lane = static_cast<uint8_t>(token % kSymbolLanes)});
  }
  if (slot.raw_bits == 0) return;
  for (size_t token = 0; token < tokens; ++token) {
    steps_.push_back({.start = static_cast<uint16_t>(codes[token] & ((1 << slot.raw_bits) - 1)),
                      .raw_bits = slot.raw_bits,
                      .lane = static_cast<uint8_t>(token % kSymbolLanes)});
  }
}

void SymbolEncoder::Finish(size_t lanes, std::vector<uint16_t>& words) {
  std::array<uint32_t, kSymbolLanes> states;
  states.fill(kLeastState);
  // Backwards: what is put last is taken first.
  std::vector<uint16_t> backwards;
  const auto give = [&](uint32_t& state, uint32_t limit) {
    if (state < limit) return;
    backwards.push_back(static_cast<uint16_t>(state));
    state >>= kWordBits;
  };
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
    uint32_t& state = states[step->lane];
    if (step->raw_bits != 0) {
      give(state, 1U << (kStateBits - step->raw_bits));
      state = state << step->raw_bits | step->start;
    } else {
      const uint32_t frequency = step->frequency;
      give(state, frequency << kWordBits);
      state = (state / frequency) << kFrequencyBits | (state % frequency + step->start);
    }
  }
  // A state that does not fit into 16 bits is below the least without its last word: a
  // decoder takes that at once.
  for (size_t lane = lanes; lane-- > 0;) give(states[lane], 1U << kWordBits);
  for (size_t lane = 0; lane < lanes; ++lane) words.push_back(static_cast<uint16_t>(states[lane]));
  words.insert(words.end(), backwards.rbegin(), backwards.rend());
  steps_.clear();
}

// Takes the symbol off a state.
inline uint32_t TakeSymbol(const uint8_t* symbols, const SymbolTable::Range* ranges,
                           uint32_t& state) {
  const uint32_t place = state & kMask;
  const uint32_t symbol = symbols[place];
  const SymbolTable::Range range = ranges[symbol];
  state = uint32_t{range.frequency} * (state >> kFrequencyBits) + place - range.start;
  return symbol;
}
inline int16_t CodeOfSymbol(uint32_t symbol, int16_t zero) {
  return static_cast<int16_t>(static_cast<int32_t>(symbol) - zero);
}

uint32_t SymbolDecoder::Refilled(uint32_t state) {
  if (state >= kLeastState) return state;
  uint32_t word = 0;
  if (end_ - at_ >= 2) {
    word = LoadLittle<uint16_t>(at_);
    at_ += 2;
  }
  return state << kWordBits | word;
}

SymbolDecoder::SymbolDecoder(ByteView stream, size_t lanes)
    : at_(stream.data()), end_(stream.data() + stream.size()) {
  for (size_t lane = 0; lane < lanes && end_ - at_ >= 2; ++lane, at_ += 2) {
    states_[lane] = LoadLittle<uint16_t>(at_);
  }
  for (size_t lane = 0; lane < lanes; ++lane) states_[lane] = Refilled(states_[lane]);
}

void SymbolDecoder::TakeCarefully(const SymbolSlot& slot, size_t tokens, int16_t* codes) {
  for (size_t token = 0; token < tokens; ++token) {
    uint32_t& state = states_[token % kSymbolLanes];
    const uint32_t symbol = TakeSymbol(slot.table->symbols(), slot.table->ranges(), state);
    codes[token] = CodeOfSymbol(symbol, slot.zero);
    state = Refilled(state);
  }
  const uint32_t mask = (1U << slot.raw_bits) - 1;
  for (size_t token = 0; token < tokens && mask != 0; ++token) {
    uint32_t& state = states_[token % kSymbolLanes];
    codes[token] = static_cast<int16_t>(codes[token] * (1 << slot.raw_bits) +
                                        static_cast<int32_t>(state & mask));
    state = Refilled(state >> slot.raw_bits);
  }
}

// Takes a word in if one is due. Without branches: that is as good as random.
inline void RefillQuickly(uint32_t& state, const uint8_t*& at) {
  const uint32_t filled = state << kWordBits | LoadLittle<uint16_t>(at);
  const uint8_t* const next = at + 2;
#if defined(__x86_64__)
  // Of the same in C++, GCC 12 makes a branch, or masks of five instructions: three fourths of the
  // speed.
  asm("cmp %[least], %[state]\n\tcmovb %[filled], %[state]\n\tcmovb %[next], %[at]"
      : [state] "+r"(state), [at] "+r"(at)
      : [filled] "r"(filled), [next] "r"(next), [least] "i"(kLeastState)
      : "cc");
#else
  const uint32_t due = 0 - static_cast<uint32_t>(state < kLeastState);
  state ^= (state ^ filled) & due;
  at += 2 & due;
#endif
}

void SymbolDecoder::TakeQuickly(const SymbolSlot& slot, int16_t* codes) {
  // By value, so that they stay in registers.
  std::array<uint32_t, kSymbolLanes> states = states_;
  const uint8_t* at = at_;
  const uint8_t* const symbols = slot.table->symbols();
  const SymbolTable::Range* const ranges = slot.table->ranges();
  const int16_t zero = slot.zero;
  for (size_t half = 0; half < kTileTokens; half += kSymbolLanes) {
#pragma GCC unroll 8
    for (size_t lane = 0; lane < kSymbolLanes; ++lane) {
      codes[half + lane] = CodeOfSymbol(TakeSymbol(symbols, ranges, states[lane]), zero);
      RefillQuickly(states[lane], at);
    }
  }
  if (slot.raw_bits != 0) {
    const uint32_t bits = slot.raw_bits;
    const uint32_t mask = (1U << bits) - 1;
    for (size_t half = 0; half < kTileTokens; half += kSymbolLanes) {
#pragma GCC unroll 8
      for (size_t lane = 0; lane < kSymbolLanes; ++lane) {
        codes[half + lane] = static_cast<int16_t>(codes[half + lane] * (1 << bits) +
                                                  static_cast<int32_t>(states[lane] & mask));
        states[lane] >>= bits;
        RefillQuickly(states[lane], at);
      }
    }
  }
  states_ = states;
  at_ = at;
}

void SymbolDecoder::Take(std::span<const SymbolSlot> slots, size_t tokens, int16_t* codes) {
  for (const SymbolSlot& slot : slots) {
    if (tokens == kTileTokens && end_ - at_ >= kPlentyBytes) {
      TakeQuickly(slot, codes);
    } else {
      TakeCarefully(slot, tokens, codes);
    }
    codes += kTileTokens;
  }
}

}  // namespace mnemo::codec
