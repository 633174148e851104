#include "storage/context/token_importance.h"

#include <algorithm>
#include <cmath>

namespace mnemo {

double FrequencySignal(uint32_t uses) { return std::min(1.0, std::log1p(uses) / std::log(101.0)); }

double RecencySignal(Nanos age, Nanos decay) {
  const auto nanos = static_cast<double>(std::max<int64_t>(age.count(), 0));
  return std::exp(-nanos / static_cast<double>(decay.count()));
}

double PositionSignal(uint64_t first, uint64_t end, uint64_t total) {
  if (first < kSinkTokens) return 1;
  const uint64_t behind = total > end ? total - end : 0;
  return std::exp(-static_cast<double>(behind) / static_cast<double>(kTailTokens));
}

double TokenImportance(const ImportanceSignals& signals, const ImportanceWeights& weights) {
  // A client's number that is none says nothing.
  const double client = signals.client > 0 ? std::min<double>(signals.client, 1) : 0;
  return weights.recency * RecencySignal(signals.age, kImportanceDecay) +
         weights.frequency * FrequencySignal(signals.uses) +
         weights.position *
             PositionSignal(signals.first_position, signals.end_position, signals.context_tokens) +
         weights.client * client;
}

}  // namespace mnemo
