// The engine of contexts over the stream store.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/engine/context_engine.h"
#include "server/engine/context_row_cache.h"
#include "server/engine/context_search.h"

namespace mnemo {

struct ContextEngineOptions {
  uint64_t search_memory_bytes = uint64_t{256} << 20;  // embeddings held for searches
};

// Borrows the store and the spaces, which links name.
class StoredContextEngine final : public ContextEngine {
 public:
  StoredContextEngine(ContextStore& store, const SpaceEngine& spaces, const Clock& clock,
                      const ContextEngineOptions& options);

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

 private:
  // Errors: kNotFound, kInvalidArgument (it is not given).
  absl::StatusOr<ContextRecord> Resolve(const CallContext& call, const ContextRef& ref) const;
  // What a search is over.
  absl::StatusOr<std::vector<ContextRecord>> Select(const CallContext& call,
                                                    const ContextSearchRequest& request) const;
  // Where its chunks lie. O(chunks), without reading any. Errors: the store's.
  absl::Status DescribePlaces(const ContextRecord& context, uint32_t max_runs,
                              ContextDescription& out) const;

  ContextStore& store_;
  const SpaceEngine& spaces_;
  const Clock& clock_;
  ContextRowCache rows_;
  const ContextSearcher searcher_;
};

}  // namespace mnemo
