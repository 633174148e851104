// Get: parts go out one step at a time.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "server/engine/block_engine.h"
#include "server/engine/request_keys.h"

namespace mnemo {

class GetSessionImpl final : public GetSession {
 public:
  // Errors: kInvalidArgument, kFailedPrecondition (a layer range of parts that
  // have no readable layers).
  static absl::StatusOr<std::unique_ptr<GetSession>> Create(const CallContext& call,
                                                            CallScope scope,
                                                            const GetRequest& request,
                                                            BlockStore& store, Clock& clock,
                                                            EngineObserver& observer);
  ~GetSessionImpl() override;

  absl::StatusOr<std::optional<ReadStep>> Next() override;

 private:
  // Sections [first, first + count) of a part, and where they begin in it.
  struct Run {
    uint32_t first = 0;
    uint32_t count = 0;
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };
  struct PartPlan {
    PartKey key;
    PartGeometry geometry;
    // Layer-major only:
    Digest128 digest;
    bool open = false;           // its header was sent without an error
    std::optional<PartRead> held;  // read whole ahead, since it lies on disk
  };

  GetSessionImpl(const CallContext& call, CallScope scope, BlockStore& store, Clock& clock,
                 EngineObserver& observer)
      : call_(call),
        scope_(std::move(scope)),
        store_(store),
        clock_(clock),
        observer_(observer) {}

  absl::Status Plan(const GetRequest& request);
  absl::Status CheckLayers(const PartPlan& part, const GetRequest& request) const;
  // The runs of layers [first, first + count) of a part.
  std::vector<Run> RunsOf(const PartPlan& part, uint32_t first, uint32_t count) const;
  std::vector<Run> AllRunsOf(const PartPlan& part) const;
  absl::StatusOr<PartRead> Read(const PartPlan& part, const Run& run);

  void StepBlockMajor();
  void StepLayerHeader();
  void StepLayerData();
  ReadStep HeaderOf(size_t index, const PartRead& read, uint64_t following) const;
  ReadStep ErrorOf(size_t index, const absl::Status& error) const;

  const CallContext& call_;
  const CallScope scope_;
  BlockStore& store_;
  Clock& clock_;
  EngineObserver& observer_;
  ReadOrder order_ = ReadOrder::kBlockMajor;
  uint32_t first_layer_ = 0;
  uint32_t layer_count_ = 0;  // 0: all
  uint64_t lease_ = 0;
  std::vector<PartPlan> parts_;
  size_t cursor_ = 0;        // of parts_
  bool headers_done_ = false;
  uint32_t layer_ = 0;       // layer-major: relative to first_layer_
  uint32_t layers_ = 0;      // layer-major: how many steps of layers
  uint64_t held_bytes_ = 0;
  std::vector<ReadStep> ready_;  // steps to hand out, last first
};

}  // namespace mnemo
