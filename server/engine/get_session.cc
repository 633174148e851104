#include "server/engine/get_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

// A part on disk is read whole: a layer-major read keeps what it read, up to
// this many bytes a call, instead of reading it again for each layer.
constexpr uint64_t kMaxHeldBytes = 64 * kMiB;
// Parts that are read ahead of the one whose turn it is.
constexpr size_t kPartsAhead = 4;
// So far behind that one they are looked for: a look-up each.
constexpr size_t kLookAhead = 64;

// Whether two reads of one key gave pieces of the same bytes.
bool IsSame(const PartRead& read, const Digest128& digest,
            const std::optional<PartFidelity>& fidelity) {
  return read.digest == digest && read.fidelity == fidelity;
}

bool IsOnDisk(const Lookup& found) {
  return found.presence == Presence::kPresent && found.level != Level::kL1 &&
         found.level != Level::kL2;
}

ReadStep HeaderOf(size_t index, const PartRead& read, uint64_t following) {
  return {.kind = ReadStep::Kind::kHeader,
          .index = static_cast<uint32_t>(index),
          .size = read.payload_bytes,
          .digest = read.given_digest.value_or(read.fidelity ? Digest128{} : read.digest),
          .fidelity = read.fidelity,
          .put_digest = read.digest,
          .level = read.level,
          .bytes_following = following,
          .depth = read.depth};
}

// One run of a part on its way to a sink, which is told of the part before its first run.
class RunSink final : public PartSink {
 public:
  RunSink(ReadSink& sink, uint32_t index, uint64_t bytes_of_all_runs)
      : sink_(sink), index_(index), bytes_of_all_runs_(bytes_of_all_runs) {}

  // The run that comes begins `position` bytes behind the first, and is of the same bytes
  // as `before`.
  void Follow(uint64_t position, PartRead before) {
    position_ = position;
    before_ = std::move(before);
  }

  absl::Status Begin(const PartRead& part, uint64_t bytes) override {
    // A part replaced between two runs must not be put together from both.
    if (before_ && !IsSame(part, before_->digest, before_->fidelity)) {
      return absl::AbortedError("the part was replaced during the read; read it again");
    }
    if (before_) return absl::OkStatus();
    return sink_.Begin(
        HeaderOf(index_, part, bytes_of_all_runs_ != 0 ? bytes_of_all_runs_ : bytes));
  }
  absl::Status Take(uint64_t offset, const PinnedBytes& bytes) override {
    return sink_.Take(index_, position_ + offset, bytes);
  }
  void ForEach(size_t count, const std::function<void(size_t)>& work) override {
    sink_.ForEach(count, work);
  }

 private:
  ReadSink& sink_;
  const uint32_t index_;
  const uint64_t bytes_of_all_runs_;  // 0: there is one run, of whatever the part has
  uint64_t position_ = 0;
  std::optional<PartRead> before_;
};

PartId PartAt(const GetRequest& request, size_t index) {
  return request.parts.empty() ? PartId{} : request.parts[index % request.parts.size()];
}

}  // namespace

absl::StatusOr<std::unique_ptr<GetSession>> GetSessionImpl::Create(
    const CallContext& call, CallScope scope, const GetRequest& request, BlockStore& store,
    Clock& clock, EngineObserver& observer, ChainFollower& follower) {
  std::unique_ptr<GetSessionImpl> session(
      new GetSessionImpl(call, std::move(scope), store, clock, observer, follower));
  MNEMO_RETURN_IF_ERROR(session->Plan(request));
  // A lease is released when its read ends, so only by a read that began.
  session->lease_ = request.lease;
  return session;
}

GetSessionImpl::~GetSessionImpl() {
  if (lease_ == 0) return;
  // A lease that ended meanwhile needs no release.
  store_.RenewLease(lease_, call_.identity.tenant, Nanos(0)).IgnoreError();
}

absl::Status GetSessionImpl::AddGeometry(const PartId& part, const GetRequest& request) {
  MNEMO_ASSIGN_OR_RETURN(PartGeometry geometry, GeometryOf(scope_.spec(), part));
  const uint32_t layers = geometry.layers;
  const bool all =
      request.first_layer == 0 && (request.layer_count == 0 || request.layer_count == layers);
  if (!all && !geometry.layers_readable) {
    return absl::FailedPreconditionError(fmt::format(
        "first_layer and layer_count ask for a range, but parts of group {} are read whole",
        part.group));
  }
  if (!all &&
      (request.first_layer >= layers || request.layer_count > layers - request.first_layer)) {
    return absl::InvalidArgumentError(
        fmt::format("layers [{}, {}) are asked for; the part has {}", request.first_layer,
                    uint64_t{request.first_layer} + request.layer_count, layers));
  }
  layers_ = std::max(layers_, StepsOf(geometry));
  geometries_.push_back(std::move(geometry));
  return absl::OkStatus();
}

absl::Status GetSessionImpl::Plan(const GetRequest& request) {
  MNEMO_RETURN_IF_ERROR(CheckKeys(scope_, request.keys, kMaxKeysPerGet));
  if (request.parts.size() > kMaxPartsPerKey) {
    return absl::InvalidArgumentError(fmt::format("parts holds {}; it must hold at most {}",
                                                  request.parts.size(), kMaxPartsPerKey));
  }
  const size_t parts_a_key = std::max<size_t>(1, request.parts.size());
  const size_t total = request.keys.keys.size() * parts_a_key;
  if (total > kMaxPartsPerGet) {
    return absl::InvalidArgumentError(
        fmt::format("keys times parts is {}; it must be at most {}", total, kMaxPartsPerGet));
  }
  order_ = request.order;
  first_layer_ = request.first_layer;
  layer_count_ = request.layer_count;
  takes_ = request.takes;
  for (size_t p = 0; p < parts_a_key; ++p) {
    MNEMO_RETURN_IF_ERROR(AddGeometry(PartAt(request, p), request));
  }
  parts_.reserve(total);
  for (size_t i = 0; i < total; ++i) {
    const size_t k = i / parts_a_key;
    const std::string_view stretch =
        request.keys.stretches.empty() ? std::string_view() : request.keys.stretches[k];
    parts_.push_back({.key = PartKeyOf(scope_, request.keys.keys[k], stretch, PartAt(request, i)),
                      .geometry = static_cast<uint32_t>(i % parts_a_key)});
  }
  return absl::OkStatus();
}

uint32_t GetSessionImpl::StepsOf(const PartGeometry& geometry) const {
  if (!geometry.layers_readable) return 1;
  return layer_count_ != 0 ? layer_count_ : geometry.layers - first_layer_;
}

std::vector<GetSessionImpl::Run> GetSessionImpl::RunsOf(const PartGeometry& geometry,
                                                        uint32_t first, uint32_t count) {
  const std::vector<uint64_t>& sizes = geometry.sections.sizes;
  const auto run = [&](uint32_t section, uint32_t sections) {
    Run out{.first = section, .count = sections};
    for (uint32_t i = 0; i < section; ++i) out.offset += sizes[i];
    for (uint32_t i = section; i < section + sections; ++i) out.bytes += sizes[i];
    return out;
  };
  if (geometry.layout == Layout::kKvMajor) {
    std::vector<Run> runs = {run(first, count)};
    if (geometry.has_v) runs.push_back(run(geometry.layers + first, count));
    return runs;
  }
  const uint32_t per_layer = geometry.has_v ? 2 : 1;
  return {run(first * per_layer, count * per_layer)};
}

std::vector<GetSessionImpl::Run> GetSessionImpl::AllRunsOf(const PartGeometry& geometry) const {
  if (first_layer_ == 0 && (layer_count_ == 0 || layer_count_ == geometry.layers)) {
    return {Run{.first = 0, .count = 0, .offset = 0, .bytes = geometry.bytes}};
  }
  return RunsOf(geometry, first_layer_,
                layer_count_ != 0 ? layer_count_ : geometry.layers - first_layer_);
}

uint64_t GetSessionImpl::BytesOf(const PartPlan& part) const {
  uint64_t bytes = 0;
  for (const Run& run : AllRunsOf(GeometryOfPlan(part))) bytes += run.bytes;
  if (bytes != 0) return bytes;
  return store_.Find({&part.key, 1})[0].payload_bytes;
}

bool GetSessionImpl::Hold(PartPlan& part, uint64_t bytes) {
  if (bytes <= part.may_hold) return true;
  if (held_bytes_ + bytes > kMaxHeldBytes) return false;
  if (held_ && !held_->TryAdd(bytes)) return false;
  held_bytes_ += bytes;
  part.may_hold = bytes;
  return true;
}

uint64_t GetSessionImpl::NextBytes() const {
  if (!ready_.empty() || cursor_ >= parts_.size()) return 0;
  const PartPlan& part = parts_[cursor_];
  if (order_ != ReadOrder::kLayerMajor) return BytesOf(part);
  if (!headers_done_ || !part.open || part.held) return 0;
  const PartGeometry& geometry = GeometryOfPlan(part);
  if (!geometry.layers_readable) return layer_ == 0 ? BytesOf(part) : 0;
  if (layer_ >= StepsOf(geometry)) return 0;
  uint64_t bytes = 0;
  for (const Run& run : RunsOf(geometry, first_layer_ + layer_, 1)) bytes += run.bytes;
  return bytes;
}

bool GetSessionImpl::NextIsInRam() const {
  if (!ready_.empty() || cursor_ >= parts_.size() || parts_[cursor_].held) return true;
  return !IsOnDisk(store_.Find({&parts_[cursor_].key, 1})[0]);
}

void GetSessionImpl::Follow(PartPlan& part, const PartRead& read) {
  if (std::exchange(part.told, true)) return;
  const auto index = static_cast<size_t>(&part - parts_.data());
  follower_.OnRead(part.key, read, index + geometries_.size() >= parts_.size());
}

absl::StatusOr<PartRead> GetSessionImpl::Read(PartPlan& part, const Run& run, PartSink* sink) {
  const MonoTime start = clock_.Mono();
  absl::StatusOr<PartRead> read = sink == nullptr
                                      ? store_.Read(part.key, run.first, run.count)
                                      : store_.ReadInto(part.key, run.first, run.count, *sink);
  if (read.ok()) {
    observer_.OnRead(read->level, read->bytes.size(), clock_.Mono() - start);
    Follow(part, *read);
  } else if (absl::IsNotFound(read.status())) {
    observer_.OnMiss();
  }
  return read;
}

std::vector<SectionRun> GetSessionImpl::ExcerptRunsOf(const PartGeometry& geometry) const {
  std::vector<SectionRun> runs;
  for (const Run& run : AllRunsOf(geometry)) {
    if (run.count == 0) return {};
    runs.push_back({.first = run.first, .count = run.count});
  }
  return runs;
}

absl::StatusOr<std::optional<PartRead>> GetSessionImpl::ReadEncoded(PartPlan& part) {
  if (takes_ == 0) return std::nullopt;
  const MonoTime start = clock_.Mono();
  absl::StatusOr<std::optional<PartRead>> read =
      store_.ReadEncoded(part.key, ExcerptRunsOf(GeometryOfPlan(part)), takes_);
  if (read.ok() && read->has_value()) {
    observer_.OnRead((*read)->level, (*read)->bytes.size(), clock_.Mono() - start);
    Follow(part, **read);
  } else if (absl::IsNotFound(read.status())) {
    observer_.OnMiss();
  }
  return read;
}

ReadStep GetSessionImpl::EncodedHeaderOf(size_t index, const PartRead& read) const {
  ReadStep header = HeaderOf(index, read, read.bytes.size());
  header.encoded = true;
  header.runs = ExcerptRunsOf(GeometryOfPlan(parts_[index]));
  return header;
}

ReadStep GetSessionImpl::ErrorOf(size_t index, const absl::Status& error) const {
  return {.kind = ReadStep::Kind::kHeader, .index = static_cast<uint32_t>(index), .error = error};
}

void GetSessionImpl::ReadAheadOf(size_t index) {
  while (!ahead_.empty() && ahead_.front().index < index) ahead_.pop_front();
  const size_t most = kPartsAhead + (!ahead_.empty() && ahead_.front().index == index ? 1 : 0);
  const size_t end = std::min(parts_.size(), index + 1 + kLookAhead);
  // The part itself is read by this thread, unless its turn came ahead.
  next_ahead_ = std::max(next_ahead_, index + 1);
  for (; next_ahead_ < end && ahead_.size() < most; ++next_ahead_) {
    PartPlan& part = parts_[next_ahead_];
    const Lookup found = store_.Find({&part.key, 1})[0];
    if (!IsOnDisk(found)) continue;
    // Layer by layer, what cannot be held is read again for each.
    if (order_ == ReadOrder::kLayerMajor && !Hold(part, found.payload_bytes)) continue;
    std::unique_ptr<PartAhead> next = store_.ReadAhead(part.key);
    if (next == nullptr) return;  // no room now
    ahead_.push_back({.index = next_ahead_, .part = std::move(next)});
  }
}

// All of one part: its header and its data.
void GetSessionImpl::StepBlockMajor() {
  const size_t index = cursor_++;
  ReadAheadOf(index);
  PartPlan& part = parts_[index];
  absl::StatusOr<std::optional<PartRead>> encoded = ReadEncoded(part);
  if (!encoded.ok()) return ready_.push_back(ErrorOf(index, encoded.status()));
  if (encoded->has_value()) {
    ready_.push_back({.kind = ReadStep::Kind::kData,
                      .index = static_cast<uint32_t>(index),
                      .bytes = (*encoded)->bytes});
    return ready_.push_back(EncodedHeaderOf(index, **encoded));
  }
  std::vector<ReadStep> steps;
  uint64_t following = 0;
  std::optional<PartRead> first;
  for (const Run& run : AllRunsOf(GeometryOfPlan(part))) {
    absl::StatusOr<PartRead> read = Read(part, run);
    // A part replaced or encoded between two runs must not be put together from both.
    if (read.ok() && first && !IsSame(*read, first->digest, first->fidelity)) {
      read = absl::AbortedError("the part was replaced during the read; read it again");
    }
    if (!read.ok()) {
      ready_.push_back(ErrorOf(index, read.status()));
      return;
    }
    following += read->bytes.size();
    steps.push_back({.kind = ReadStep::Kind::kData,
                     .index = static_cast<uint32_t>(index),
                     .offset = run.offset,
                     .bytes = read->bytes});
    if (!first) first = *std::move(read);
  }
  std::move(steps.rbegin(), steps.rend(), std::back_inserter(ready_));
  ready_.push_back(HeaderOf(index, *first, following));
}

void GetSessionImpl::StepLayerHeader() {
  const size_t index = cursor_++;
  PartPlan& part = parts_[index];
  const std::optional<PartState> state = store_.Describe(part.key);
  if (!state || state->pending) {
    observer_.OnMiss();
    ready_.push_back(ErrorOf(index, absl::NotFoundError("no such part")));
    return;
  }
  uint64_t following = 0;
  for (const Run& run : AllRunsOf(GeometryOfPlan(part))) following += run.bytes;
  if (following == 0) following = state->payload_bytes;
  PartRead read{.digest = state->digest,
                .payload_bytes = state->payload_bytes,
                .level = state->level,
                .depth = state->depth};
  if ((state->level != Level::kL1 || state->lossy) && Hold(part, state->payload_bytes)) {
    ReadAheadOf(index);
    absl::StatusOr<PartRead> whole = Read(part, Run{});
    if (!whole.ok()) {
      ready_.push_back(ErrorOf(index, whole.status()));
      return;
    }
    part.held = *std::move(whole);
    read = *part.held;
  } else if (state->lossy) {
    // Too much to be held: a layer alone tells how it is kept.
    absl::StatusOr<PartRead> some = Read(part, RunsOf(GeometryOfPlan(part), first_layer_, 1)[0]);
    if (!some.ok()) {
      ready_.push_back(ErrorOf(index, some.status()));
      return;
    }
    read.fidelity = some->fidelity;
  }
  part.digest = read.digest;
  part.fidelity = read.fidelity;
  part.open = true;
  ready_.push_back(HeaderOf(index, read, following));
}

void GetSessionImpl::StepLayerData() {
  const size_t index = cursor_++;
  PartPlan& part = parts_[index];
  if (!part.open) return;
  const PartGeometry& geometry = GeometryOfPlan(part);
  const uint32_t steps = StepsOf(geometry);
  if (layer_ >= steps) return;
  const std::vector<Run> runs =
      geometry.layers_readable ? RunsOf(geometry, first_layer_ + layer_, 1) : AllRunsOf(geometry);
  std::vector<ReadStep> steps_out;
  for (const Run& run : runs) {
    ReadStep step{
        .kind = ReadStep::Kind::kData, .index = static_cast<uint32_t>(index), .offset = run.offset};
    if (part.held) {
      const uint64_t bytes = run.bytes != 0 ? run.bytes : part.held->payload_bytes;
      step.bytes = part.held->bytes.Slice(run.offset, bytes);
    } else {
      absl::StatusOr<PartRead> read = Read(part, run);
      if (read.ok() && !IsSame(*read, part.digest, part.fidelity)) {
        read = absl::AbortedError("the part was replaced during the read; read it again");
      }
      if (!read.ok()) {
        part.open = false;
        ready_.push_back(ErrorOf(index, read.status()));
        return;
      }
      step.bytes = std::move(read->bytes);
    }
    steps_out.push_back(std::move(step));
  }
  if (layer_ + 1 == steps) part.held.reset();
  std::move(steps_out.rbegin(), steps_out.rend(), std::back_inserter(ready_));
}

absl::Status GetSessionImpl::ReadPartInto(size_t index, ReadSink& sink) {
  ReadAheadOf(index);
  PartPlan& part = parts_[index];
  MNEMO_ASSIGN_OR_RETURN(const std::optional<PartRead> encoded, ReadEncoded(part));
  if (encoded) {
    MNEMO_RETURN_IF_ERROR(sink.Begin(EncodedHeaderOf(index, *encoded)));
    return sink.Take(static_cast<uint32_t>(index), 0, encoded->bytes);
  }
  const std::vector<Run> runs = AllRunsOf(GeometryOfPlan(part));
  uint64_t bytes = 0;
  for (const Run& run : runs) bytes += run.bytes;
  RunSink to(sink, static_cast<uint32_t>(index), bytes);
  uint64_t position = 0;
  for (const Run& run : runs) {
    MNEMO_ASSIGN_OR_RETURN(PartRead read, Read(part, run, &to));
    position += std::exchange(read.bytes, {}).size();
    to.Follow(position, std::move(read));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> GetSessionImpl::NextInto(ReadSink& sink) {
  MNEMO_CHECK(order_ != ReadOrder::kLayerMajor);
  if (cursor_ == parts_.size()) return false;
  MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, clock_));
  const size_t index = cursor_++;
  sink.End(static_cast<uint32_t>(index), ReadPartInto(index, sink));
  return true;
}

absl::StatusOr<std::optional<ReadStep>> GetSessionImpl::Next() {
  while (ready_.empty()) {
    MNEMO_RETURN_IF_ERROR(CheckGoesOn(call_, clock_));
    if (cursor_ < parts_.size()) {
      if (order_ != ReadOrder::kLayerMajor) {
        StepBlockMajor();
      } else if (!headers_done_) {
        StepLayerHeader();
      } else {
        StepLayerData();
      }
      continue;
    }
    ahead_.clear();
    if (order_ != ReadOrder::kLayerMajor) return std::nullopt;
    cursor_ = 0;
    if (!headers_done_) {
      headers_done_ = true;
    } else if (++layer_ >= layers_) {
      cursor_ = parts_.size();
      order_ = ReadOrder::kBlockMajor;  // nothing is left in either order
      return std::nullopt;
    }
  }
  ReadStep step = std::move(ready_.back());
  ready_.pop_back();
  return step;
}

}  // namespace mnemo
