#include "storage/base/crc32c.h"

#include <array>
#include <cstring>

namespace mnemo {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // bits in reverse

constexpr uint32_t ShiftByte(uint32_t remainder) {
  for (int bit = 0; bit < 8; ++bit) {
    remainder = (remainder & 1) != 0 ? (remainder >> 1) ^ kPolynomial : remainder >> 1;
  }
  return remainder;
}

// [k][b]: the remainder of byte b with k bytes of zeros behind it.
using Tables = std::array<std::array<uint32_t, 256>, 8>;
constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t remainder = b;
    for (auto& table : tables) table[b] = remainder = ShiftByte(remainder);
  }
  return tables;
}
constexpr Tables kTables = MakeTables();

uint64_t LoadWord(const uint8_t* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

// `remainder` with the bytes behind it.
uint32_t ByTables(uint32_t remainder, const uint8_t* at, size_t size) {
  for (; size >= 8; size -= 8, at += 8) {
    const uint64_t word = LoadWord(at) ^ remainder;
    remainder = 0;
    for (size_t i = 0; i < 8; ++i) remainder ^= kTables[7 - i][(word >> (8 * i)) & 0xff];
  }
  for (; size > 0; --size, ++at) {
    remainder = kTables[0][(remainder ^ *at) & 0xff] ^ (remainder >> 8);
  }
  return remainder;
}

#if defined(__x86_64__)

// Bytes of each of the three runs: short enough for values of 4 KiB to have one of them.
constexpr int kRunLog = 10;
constexpr size_t kRun = size_t{1} << kRunLog;

// What kRun bytes of zeros behind it make of a remainder: linear in its bits.
using BitImages = std::array<uint32_t, 32>;
constexpr uint32_t Apply(const BitImages& images, uint32_t remainder) {
  uint32_t image = 0;
  for (size_t bit = 0; bit < 32; ++bit) {
    if ((remainder >> bit & 1) != 0) image ^= images[bit];
  }
  return image;
}
using RunTables = std::array<std::array<uint32_t, 256>, 4>;
constexpr RunTables MakeRunTables() {
  BitImages images{};
  for (size_t bit = 0; bit < 32; ++bit) images[bit] = ShiftByte(uint32_t{1} << bit);
  for (int doubling = 0; doubling < kRunLog; ++doubling) {
    BitImages twice{};
    for (size_t bit = 0; bit < 32; ++bit) twice[bit] = Apply(images, images[bit]);
    images = twice;
  }
  RunTables tables{};
  for (size_t k = 0; k < 4; ++k) {
    for (uint32_t b = 0; b < 256; ++b) tables[k][b] = Apply(images, b << (8 * k));
  }
  return tables;
}
constexpr RunTables kRunTables = MakeRunTables();

uint32_t ShiftRun(uint64_t remainder) {
  return kRunTables[0][remainder & 0xff] ^ kRunTables[1][(remainder >> 8) & 0xff] ^
         kRunTables[2][(remainder >> 16) & 0xff] ^ kRunTables[3][(remainder >> 24) & 0xff];
}

// The instruction takes three cycles and may begin in each of them: one run would wait for it.
// Highway has no name for it, so it is the compiler's.
__attribute__((target("sse4.2"))) uint32_t ByInstruction(uint32_t begin, const uint8_t* at,
                                                         size_t size) {
  uint64_t first = begin;
  for (; size >= 3 * kRun; size -= 3 * kRun, at += 3 * kRun) {
    uint64_t second = 0;
    uint64_t third = 0;
    for (size_t i = 0; i < kRun; i += 8) {
      first = __builtin_ia32_crc32di(first, LoadWord(at + i));
      second = __builtin_ia32_crc32di(second, LoadWord(at + kRun + i));
      third = __builtin_ia32_crc32di(third, LoadWord(at + 2 * kRun + i));
    }
    first = ShiftRun(first) ^ second;
    first = ShiftRun(first) ^ third;
  }
  for (; size >= 8; size -= 8, at += 8) first = __builtin_ia32_crc32di(first, LoadWord(at));
  auto remainder = static_cast<uint32_t>(first);
  for (; size > 0; --size, ++at) remainder = __builtin_ia32_crc32qi(remainder, *at);
  return remainder;
}

#endif

}  // namespace

uint32_t ExtendCrc32cByTables(uint32_t crc, ByteView bytes) {
  return ~ByTables(~crc, bytes.data(), bytes.size());
}

uint32_t ExtendCrc32c(uint32_t crc, ByteView bytes) {
#if defined(__x86_64__)
  static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
  if (has_instruction) return ~ByInstruction(~crc, bytes.data(), bytes.size());
#endif
  return ExtendCrc32cByTables(crc, bytes);
}

}  // namespace mnemo
