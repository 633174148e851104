#include "server/stream_counts.h"

namespace mnemo {

void StreamCounts::OnStreamOpened() { ++opened_; }

void StreamCounts::OnStreamClosed(stream::CloseReason reason) {
  ++closed_[static_cast<size_t>(reason)];
}

StreamFigures StreamCounts::Figures(const RegionLedger* regions) const {
  StreamFigures figures;
  if (regions == nullptr) return figures;
  uint64_t closed = 0;
  // From 1: kNone is no reason. Before `opened_`, which is then never the smaller.
  for (size_t i = 1; i < closed_.size(); ++i) {
    const uint64_t count = closed_[i];
    closed += count;
    figures.closed.emplace_back(CloseReasonLabel(static_cast<stream::CloseReason>(i)), count);
  }
  figures.opened = opened_;
  figures.open = figures.opened - closed;
  const RegionFigures forms = regions->figures();
  for (size_t i = 0; i < forms.size(); ++i) {
    figures.memory.push_back({.form = RegionFormLabel(static_cast<RegionForm>(i + 1)),
                              .regions = forms[i].regions,
                              .bytes = forms[i].bytes,
                              .registered = forms[i].registered,
                              .refused = forms[i].refused,
                              .bytes_in = forms[i].bytes_in,
                              .bytes_out = forms[i].bytes_out,
                              .failed_copies = forms[i].failed_copies});
  }
  return figures;
}

}  // namespace mnemo
