// Integer products of codes, and the rotation that makes them, for every
// target of Highway.
#include "index/kernels/tables.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "index/kernels/code_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which defines the target.
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "storage/base/hadamard.inc"

HWY_BEFORE_NAMESPACE();
namespace mnemo::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// At most 32 elements a vector, so that every target divides kCodeAlignment.
using WordTag = hn::CappedTag<int16_t, 32>;
using SumTag = hn::RepartitionToWide<WordTag>;
using SumVec = hn::Vec<SumTag>;

HWY_INLINE hn::Vec<WordTag> LoadCodes(const int8_t* row) {
  const hn::Rebind<int8_t, WordTag> bytes;
  return hn::PromoteTo(WordTag(), hn::LoadU(bytes, row));
}

HWY_INLINE SumVec AddProducts(hn::Vec<WordTag> q, const int8_t* row, SumVec sum, SumVec& second) {
  return hn::ReorderWidenMulAccumulate(SumTag(), q, LoadCodes(row), sum, second);
}

HWY_INLINE int32_t Total(SumVec sum, SumVec second) {
  return hn::GetLane(hn::SumOfLanes(SumTag(), hn::Add(sum, second)));
}

HWY_INLINE void PrefetchCodes(const int8_t* row, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) hwy::Prefetch(row + at);
}

void DotRows(const int16_t* HWY_RESTRICT query, const int8_t* const* HWY_RESTRICT rows,
             size_t count, size_t dimension, int32_t* HWY_RESTRICT out) {
  const size_t lanes = hn::Lanes(WordTag());
  const SumVec zero = hn::Zero(SumTag());
  size_t r = 0;
  for (; r + 4 <= count; r += 4) {
    // The next four rows arrive while these are multiplied.
    for (size_t next = r + 4; next < r + 8 && next < count; ++next) {
      PrefetchCodes(rows[next], dimension);
    }
    const int8_t* const HWY_RESTRICT a = rows[r];
    const int8_t* const HWY_RESTRICT b = rows[r + 1];
    const int8_t* const HWY_RESTRICT c = rows[r + 2];
    const int8_t* const HWY_RESTRICT d = rows[r + 3];
    SumVec sum_a = zero, sum_b = zero, sum_c = zero, sum_d = zero;
    SumVec more_a = zero, more_b = zero, more_c = zero, more_d = zero;
    for (size_t i = 0; i < dimension; i += lanes) {
      const hn::Vec<WordTag> q = hn::LoadU(WordTag(), query + i);
      sum_a = AddProducts(q, a + i, sum_a, more_a);
      sum_b = AddProducts(q, b + i, sum_b, more_b);
      sum_c = AddProducts(q, c + i, sum_c, more_c);
      sum_d = AddProducts(q, d + i, sum_d, more_d);
    }
    out[r] = Total(sum_a, more_a);
    out[r + 1] = Total(sum_b, more_b);
    out[r + 2] = Total(sum_c, more_c);
    out[r + 3] = Total(sum_d, more_d);
  }
  for (; r < count; ++r) {
    SumVec sum = zero, more = zero;
    for (size_t i = 0; i < dimension; i += lanes) {
      sum = AddProducts(hn::LoadU(WordTag(), query + i), rows[r] + i, sum, more);
    }
    out[r] = Total(sum, more);
  }
}

// Highway's own one-lane target has no room for a table; no level of ours is it.
#if HWY_TARGET != HWY_SCALAR

// One table fills 16 bytes, so a vector has a few tables side by side, and a sum
// of each.
using TableTag = hn::CappedTag<uint8_t, 64>;
using SumWordTag = hn::RepartitionToWide<TableTag>;

// Sums of 16-bit lanes' low and high bytes. The first also gets what the second
// has, 256 fold, which is taken off at the end: one instruction less a step.
struct PairSums {
  hn::Vec<SumWordTag> both;
  hn::Vec<SumWordTag> high;

  HWY_INLINE PairSums() : both(hn::Zero(SumWordTag())), high(hn::Zero(SumWordTag())) {}

  HWY_INLINE void Add(hn::Vec<TableTag> values) {
    const auto words = hn::BitCast(SumWordTag(), values);
    both = hn::Add(both, words);
    high = hn::Add(high, hn::ShiftRight<8>(words));
  }

  // Adds up the tables' shares: out[0..15].
  HWY_INLINE void Finish(uint16_t* HWY_RESTRICT out) const {
    constexpr size_t kMaxLanes = 32;
    HWY_ALIGN uint16_t even[kMaxLanes];
    HWY_ALIGN uint16_t odd[kMaxLanes];
    hn::Store(hn::Sub(both, hn::ShiftLeft<8>(high)), SumWordTag(), even);
    hn::Store(high, SumWordTag(), odd);
    const size_t lanes = hn::Lanes(SumWordTag());
    for (size_t i = 0; i < 8; ++i) {
      uint32_t even_sum = 0;
      uint32_t odd_sum = 0;
      for (size_t at = i; at < lanes; at += 8) {
        even_sum += even[at];
        odd_sum += odd[at];
      }
      out[2 * i] = static_cast<uint16_t>(even_sum);
      out[2 * i + 1] = static_cast<uint16_t>(odd_sum);
    }
  }
};

void SumCodes(const uint8_t* HWY_RESTRICT codes, size_t blocks, size_t tables,
              const uint8_t* HWY_RESTRICT lut, uint16_t* HWY_RESTRICT out) {
  const TableTag tag;
  const size_t bytes = tables * 16;
  const auto low_half = hn::Set(tag, uint8_t{15});
  for (size_t block = 0; block < blocks; ++block) {
    PairSums first;
    PairSums second;
    for (size_t at = 0; at < bytes; at += hn::Lanes(tag)) {
      const auto pairs = hn::LoadU(tag, codes + at);
      const auto table = hn::LoadU(tag, lut + at);
      const auto high =
          hn::And(hn::BitCast(tag, hn::ShiftRight<4>(hn::BitCast(SumWordTag(), pairs))), low_half);
      first.Add(hn::TableLookupBytes(table, hn::And(pairs, low_half)));
      second.Add(hn::TableLookupBytes(table, high));
    }
    first.Finish(out);
    second.Finish(out + 16);
    codes += bytes;
    out += kBlockCodes;
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

// Blocks of eight by plain code, since a butterfly within a vector differs by
// vector length; whole vectors from there on.
void FillCodeTable(Kernels& table) {
  table.dot_rows = DotRows;
#if HWY_TARGET != HWY_SCALAR
  table.sum_codes = SumCodes;
#endif
  table.hadamard = simd::HWY_NAMESPACE::Hadamard;
}

}  // namespace mnemo::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mnemo::kernels {

HWY_EXPORT(FillCodeTable);

void FillCode(int64_t target, Kernels& table) {
  hwy::ChosenTarget chosen;
  chosen.Update(target);
  HWY_DISPATCH_TABLE(FillCodeTable)[chosen.GetIndex()](table);
}

}  // namespace mnemo::kernels
#endif  // HWY_ONCE
