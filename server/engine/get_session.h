// Get: parts go out one step at a time.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "server/engine/block_engine.h"
#include "server/engine/byte_budget.h"
#include "server/engine/chain_follower.h"
#include "server/engine/request_keys.h"

namespace mnemo {

class GetSessionImpl final : public GetSession {
 public:
  // Errors: kInvalidArgument, kFailedPrecondition (a layer range of parts that
  // have no readable layers).
  static absl::StatusOr<std::unique_ptr<GetSession>> Create(
      const CallContext& call, CallScope scope, const GetRequest& request, BlockStore& store,
      Clock& clock, EngineObserver& observer, ChainFollower& follower);
  ~GetSessionImpl() override;

  uint64_t NextBytes() const override;
  bool NextIsInRam() const override;
  absl::StatusOr<std::optional<ReadStep>> Next() override;
  absl::StatusOr<bool> NextInto(ReadSink& sink) override;

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
    uint32_t geometry = 0;  // of geometries_
    bool told = false;      // the follower knows that it was read
    // Layer-major only:
    Digest128 digest;  // of what was put
    std::optional<PartFidelity> fidelity;
    bool open = false;             // its header was sent without an error
    uint64_t may_hold = 0;         // bytes of held_bytes_ that are for it
    std::optional<PartRead> held;  // read whole ahead, since it lies on disk
  };

  GetSessionImpl(const CallContext& call, CallScope scope, BlockStore& store, Clock& clock,
                 EngineObserver& observer, ChainFollower& follower)
      : call_(call),
        scope_(std::move(scope)),
        store_(store),
        clock_(clock),
        observer_(observer),
        follower_(follower) {
    if (call.memory != nullptr) held_.emplace(*call.memory);
  }

  absl::Status Plan(const GetRequest& request);
  absl::Status AddGeometry(const PartId& part, const GetRequest& request);
  const PartGeometry& GeometryOfPlan(const PartPlan& part) const {
    return geometries_[part.geometry];
  }
  // Layer-major: how many steps the part's data comes in.
  uint32_t StepsOf(const PartGeometry& geometry) const;
  // The runs of layers [first, first + count) of a part.
  static std::vector<Run> RunsOf(const PartGeometry& geometry, uint32_t first, uint32_t count);
  std::vector<Run> AllRunsOf(const PartGeometry& geometry) const;
  // What all runs of a part take; looked up where the geometry leaves it open.
  uint64_t BytesOf(const PartPlan& part) const;
  // Whether the whole part, of so many bytes, may be held for the steps to come.
  bool Hold(PartPlan& part, uint64_t bytes);
  absl::StatusOr<PartRead> Read(PartPlan& part, const Run& run, PartSink* sink = nullptr);
  // The part as an excerpt of its envelope, if that is asked for and pays. Errors: as Read.
  absl::StatusOr<std::optional<PartRead>> ReadEncoded(PartPlan& part);
  // Tells the follower of the first read of the part.
  void Follow(PartPlan& part, const PartRead& read);
  // What excerpts have of a part; none: all.
  std::vector<SectionRun> ExcerptRunsOf(const PartGeometry& geometry) const;
  ReadStep EncodedHeaderOf(size_t index, const PartRead& read) const;
  absl::Status ReadPartInto(size_t index, ReadSink& sink);
  // Lets go of what was read ahead of parts before `index`, and has the parts behind it
  // read ahead that lie on disk.
  void ReadAheadOf(size_t index);

  void StepBlockMajor();
  void StepLayerHeader();
  void StepLayerData();
  ReadStep ErrorOf(size_t index, const absl::Status& error) const;

  const CallContext& call_;
  const CallScope scope_;
  BlockStore& store_;
  Clock& clock_;
  EngineObserver& observer_;
  ChainFollower& follower_;
  ReadOrder order_ = ReadOrder::kBlockMajor;
  uint32_t first_layer_ = 0;
  uint32_t layer_count_ = 0;  // 0: all
  uint64_t lease_ = 0;
  CodecMask takes_ = 0;
  std::vector<PartGeometry> geometries_;  // one for each part that every key has
  std::vector<PartPlan> parts_;
  size_t cursor_ = 0;  // of parts_
  bool headers_done_ = false;
  uint32_t layer_ = 0;   // layer-major: relative to first_layer_
  uint32_t layers_ = 0;  // layer-major: how many steps of layers
  uint64_t held_bytes_ = 0;
  std::optional<ByteBudget::Claim> held_;  // of held_bytes_
  std::vector<ReadStep> ready_;            // steps to hand out, last first
  struct Ahead {
    size_t index = 0;
    std::unique_ptr<PartAhead> part;
  };
  std::deque<Ahead> ahead_;  // the part that is read now, and those behind it
  size_t next_ahead_ = 0;    // up to here it is settled whether they are read ahead
};

}  // namespace mnemo
