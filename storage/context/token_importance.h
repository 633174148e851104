// How much a run of tokens matters: what stays near when room is wanted.
//
// The first score, of what this node itself knows: four signals in [0, 1] and
// their weighted sum, as Park et al., "Generative Agents", UIST 2023, section
// 4.1, score memories (there recency, importance and relevance, equal weights).
// Pure functions; nothing here is ever a reason to drop anything.
#pragma once

#include <cstdint>

#include "storage/base/clock.h"
#include "storage/codec/tensor_shape.h"

namespace mnemo {

// The end of a stream counts as recent for about so many tokens.
inline constexpr uint64_t kTailTokens = 8192;
// A use is worth 1/e after this: what lies on a disk is cold, so a day, where
// memory in RAM has an hour.
inline constexpr Nanos kImportanceDecay = std::chrono::hours(24);

// min(1, ln(1 + n) / ln 101): 0 without uses, 1 from 100 on.
double FrequencySignal(uint32_t uses);
// e^(-age / decay). An age below 0, as clocks may give, counts as 0; `decay` > 0.
double RecencySignal(Nanos age, Nanos decay);
// Of tokens [first, end) of a stream of `total` tokens: 1 if a sink is among
// them; otherwise e^(-d / kTailTokens), where d tokens follow behind `end`.
double PositionSignal(uint64_t first, uint64_t end, uint64_t total);

struct ImportanceSignals {
  uint32_t uses = 0;  // lately
  Nanos age{0};       // since the last use, or, unused, since the tokens were said
  uint64_t first_position = 0;
  uint64_t end_position = 0;
  uint64_t context_tokens = 0;
  float client = 0;  // the largest that the client gave; 0: none, below or above 1: clamped
};

// Not negative; their sum is 1, so that scores are comparable.
struct ImportanceWeights {
  double recency = 0.25;
  double frequency = 0.25;
  double position = 0.25;
  double client = 0.25;
};

// In [0, 1].
double TokenImportance(const ImportanceSignals& signals, const ImportanceWeights& weights = {});

}  // namespace mnemo
