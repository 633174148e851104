// Contexts in a map: what the handlers of ContextService are tested against.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/engine/context_engine.h"
#include "storage/base/mutex.h"

namespace mnemo {

// Thread-safe. Keeps fp32 embeddings, searches by brute force, and follows the
// contract as far as the tests of the handlers look.
class FakeContextEngine final : public ContextEngine {
 public:
  struct Stored {
    ContextInfo info;
    uint64_t writer_id = 0;
    uint64_t claim = 0;  // of the last session
    std::string ids;
    std::string kinds;
    std::string times;
    std::string embeddings;
    std::vector<std::pair<PayloadView, std::string>> payloads;
    std::vector<BlockLink> links;
  };

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

  // Called by each Append of a batch, before anything is stored, on its thread.
  std::function<absl::Status(const TokenColumns&)> on_append;
  // What Read says that its next step takes.
  uint64_t step_bytes = 4096;
  // Steps that are alive: handed out and not let go of.
  int live_steps() const { return static_cast<int>(step_owner_.use_count()) - 1; }
  ContextSearchRequest last_search() const;
  AppendStart last_start() const;
  bool last_wait() const;

 private:
  friend class FakeAppendSession;
  Stored* Find(const ContextRef& ref) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<std::string, Stored> contexts_ ABSL_GUARDED_BY(mutex_);
  ContextSearchRequest last_search_ ABSL_GUARDED_BY(mutex_);
  AppendStart last_start_ ABSL_GUARDED_BY(mutex_);
  bool last_wait_ ABSL_GUARDED_BY(mutex_) = false;
  const std::shared_ptr<int> step_owner_ = std::make_shared<int>(0);
};

}  // namespace mnemo
