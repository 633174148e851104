// The engine of contexts over the stream store.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "server/engine/context_engine.h"
#include "server/engine/context_indexer.h"
#include "server/engine/context_range_cache.h"
#include "server/engine/context_search.h"

namespace mnemo {

struct ContextEngineOptions {
  uint64_t search_memory_bytes = uint64_t{256} << 20;  // of segments held for searches
  // Of it, at most half is read at once to build from.
  ContextIndexerOptions index;
};

// What is known of the indexes of all contexts.
struct ContextIndexFigures {
  std::array<ContextRangeCache::KindFigures, kSegmentKinds> held{};  // in RAM, by kind
  ContextIndexerFigures built;
};

// Borrows the store and the spaces, which links name. Searches use sealed
// segments once somebody has called IndexStep often enough.
class StoredContextEngine final : public ContextEngine {
 public:
  StoredContextEngine(ContextStore& store, const SpaceEngine& spaces, const Clock& clock,
                      const ContextEngineOptions& options, const Kernels& kernels = BestKernels());

  absl::StatusOr<Created> Create(const CallContext& call, const ContextSpec& spec) override;
  absl::StatusOr<std::unique_ptr<AppendSession>> Append(const CallContext& call,
                                                        const AppendStart& start) override;
  absl::StatusOr<std::unique_ptr<ContextReadSession>> Read(
      const CallContext& call, const ContextReadRequest& request) override;
  absl::StatusOr<RangeSummary> Summarize(const CallContext& call, const ContextRef& context,
                                         uint64_t first, uint64_t count) override;
  absl::StatusOr<ContextSearchAnswer> Search(const CallContext& call,
                                             const ContextSearchRequest& request) override;
  absl::Status Link(const CallContext& call, const ContextRef& context,
                    const BlockLink& link) override;
  absl::StatusOr<std::vector<BlockLink>> Links(const CallContext& call, const ContextRef& context,
                                               uint64_t first, uint64_t count,
                                               uint64_t& next) override;
  absl::StatusOr<uint64_t> Seal(const CallContext& call, const ContextRef& context) override;
  absl::StatusOr<uint64_t> Delete(const CallContext& call, const ContextRef& context,
                                  bool wait) override;
  absl::StatusOr<ContextDescription> Describe(const CallContext& call, const ContextRef& context,
                                              uint32_t max_runs) override;
  absl::StatusOr<std::vector<ContextInfo>> List(const CallContext& call, const Labels& labels,
                                                uint32_t page_size, const std::string& page_token,
                                                std::string& next) override;

  // As ContextIndexer::Step and Stop.
  absl::StatusOr<bool> IndexStep() { return indexer_.Step(); }
  void StopIndexing() { indexer_.Stop(); }
  ContextIndexFigures index_figures() const {
    return {.held = ranges_.by_kind(), .built = indexer_.figures()};
  }

 private:
  // Errors: kNotFound, kInvalidArgument (it is not given).
  absl::StatusOr<ContextRecord> Resolve(const CallContext& call, const ContextRef& ref) const;
  // What a search is over.
  absl::StatusOr<std::vector<ContextRecord>> Select(const CallContext& call,
                                                    const ContextSearchRequest& request) const;
  // The stored segments of each of its ranges; what is damaged counts as none.
  absl::StatusOr<std::vector<SegmentRecord>> SegmentsOf(const ContextRecord& context,
                                                        uint64_t tokens) const;
  // Where its chunks lie. O(chunks), without reading any. Errors: the store's.
  absl::Status DescribePlaces(const CallContext& call, const ContextRecord& context,
                              uint32_t max_runs, const std::vector<SegmentRecord>& segments,
                              ContextDescription& out) const;

  ContextStore& store_;
  const SpaceEngine& spaces_;
  const Clock& clock_;
  ContextSegments segments_;
  ContextRangeCache ranges_;
  ContextIndexer indexer_;
  const ContextSearcher searcher_;
};

}  // namespace mnemo
