// Put: parts stream in, one after another, each published when it is whole.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "server/engine/block_engine.h"
#include "server/engine/request_keys.h"

namespace mnemo {

class PutSessionImpl final : public PutSession {
 public:
  // Judges every part of the request. `call` outlives the session.
  static absl::StatusOr<std::unique_ptr<PutSession>> Create(
      const CallContext& call, CallScope scope, const PutRequest& request, BlockStore& store,
      Reservations& reservations, Clock& clock);
  ~PutSessionImpl() override;

  const std::vector<OfferVerdict>& verdicts() const override { return verdicts_; }
  std::vector<PutResult> TakeImmediateResults() override { return std::move(immediate_); }
  absl::Status Data(uint32_t index, uint64_t offset, ByteView data,
                    std::vector<PutResult>& results) override;
  absl::Status Fill(uint32_t index, const CopyIn& copy, std::vector<PutResult>& results) override;
  std::optional<uint32_t> BeginNext() override;
  absl::StatusOr<uint64_t> FillSome(uint64_t most, const PartWriter::Bring& bring) override;
  void EndPart(std::vector<PutResult>& results) override;
  uint64_t bytes_wanted() const override { return bytes_wanted_; }
  uint64_t bytes_received() const override { return bytes_received_; }
  void Finish(std::vector<PutResult>& results) override;

 private:
  struct Wanted {
    uint32_t index = 0;
    PartKey key;
    WriteSpec spec;
  };

  PutSessionImpl(const CallContext& call, CallScope scope, BlockStore& store,
                 Reservations& reservations, Clock& clock)
      : call_(call),
        scope_(std::move(scope)),
        store_(store),
        reservations_(reservations),
        clock_(clock) {}

  absl::Status CheckOrder(uint32_t index, uint64_t offset, ByteView data) const;
  void BeginPart();
  absl::Status FillPart(uint64_t bytes, const CopyIn& copy);
  // What the reservation held of a part is the writer's by now, or nobody's.
  void ReleaseReserved(const Wanted& part);

  const CallContext& call_;
  const CallScope scope_;
  BlockStore& store_;
  Reservations& reservations_;
  Clock& clock_;
  uint64_t reservation_ = 0;
  std::vector<OfferVerdict> verdicts_;
  std::vector<PutResult> immediate_;
  std::vector<Wanted> wanted_;
  size_t current_ = 0;                  // of wanted_
  uint64_t current_received_ = 0;       // payload bytes of it
  std::unique_ptr<PartWriter> writer_;  // of it, unless it failed
  absl::Status failure_;                // why there is no writer
  std::vector<uint8_t> dropped_;        // where bytes go that are not kept
  uint64_t bytes_wanted_ = 0;
  uint64_t bytes_received_ = 0;
};

// Checks one offered part against the space's geometry and fills what the store
// needs but for the layout. Errors: kInvalidArgument, naming the field and its range.
absl::StatusOr<WriteSpec> SpecOf(const CallScope& scope, const PartOffer& offer);

// What to say to a valid offer. `own` is the caller's reservation, 0 for none.
OfferVerdict Judge(const PartKey& key, const BlockStore& store, const Reservations& reservations,
                   uint64_t own);

}  // namespace mnemo
