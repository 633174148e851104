#include "tests/unit/server/rpc/fake_context_engine.h"

#include <algorithm>
#include <utility>

namespace mnemo {
namespace {

constexpr uint64_t kStepTokens = 100;

absl::Status NoContext() { return absl::NotFoundError("no such context"); }

class FakeReadSession final : public ContextReadSession {
 public:
  FakeReadSession(FakeContextEngine::Stored stored, const ContextReadRequest& request,
                  uint64_t step_bytes, std::shared_ptr<int> owner)
      : stored_(std::move(stored)),
        request_(request),
        step_bytes_(step_bytes),
        owner_(std::move(owner)),
        at_(request.first_position),
        end_(request.count == 0
                 ? stored_.info.tokens
                 : std::min(stored_.info.tokens, request.first_position + request.count)) {}

  uint64_t NextBytes() const override { return at_ < end_ ? step_bytes_ : 0; }

  absl::StatusOr<std::optional<ContextReadStep>> Next() override {
    if (at_ >= end_) return std::optional<ContextReadStep>();
    ContextReadStep step{.level = Level::kL3};
    const uint64_t wanted = request_.resolution == 1 ? kStepTokens : request_.resolution;
    const uint64_t count = std::min(wanted, end_ - at_);
    if (request_.resolution == 1) {
      const uint64_t row = stored_.info.spec.dimension * sizeof(float);
      step.tokens = {.first_position = at_,
                     .count = static_cast<uint32_t>(count),
                     .ids = AsBytes(stored_.ids).subspan(at_ * 4, count * 4),
                     .kinds = AsBytes(stored_.kinds).subspan(at_, count),
                     .times_unix_us = AsBytes(stored_.times).subspan(at_ * 8, count * 8)};
      if (request_.want_embeddings) {
        step.tokens.embeddings = AsBytes(stored_.embeddings).subspan(at_ * row, count * row);
      }
      step.owner = owner_;
      if (request_.want_payloads) AddPayloads(count, step);
    } else {
      step.summaries.push_back({.first_position = at_, .count = count, .mean = {1, 2}});
    }
    at_ += count;
    return std::optional<ContextReadStep>(std::move(step));
  }

 private:
  void AddPayloads(uint64_t count, ContextReadStep& step) const {
    for (const auto& [range, bytes] : stored_.payloads) {
      if (range.first_position < at_ || range.first_position >= at_ + count) continue;
      step.tokens.payloads.push_back(range);
      step.tokens.payloads.back().bytes = bytes;
    }
  }

  const FakeContextEngine::Stored stored_;
  const ContextReadRequest request_;
  const uint64_t step_bytes_;
  const std::shared_ptr<int> owner_;
  uint64_t at_;
  const uint64_t end_;
};

}  // namespace

class FakeAppendSession final : public AppendSession {
 public:
  FakeAppendSession(FakeContextEngine& engine, ContextRef context, ContextInfo info, uint64_t claim)
      : engine_(engine),
        context_(std::move(context)),
        id_(info.id),
        dimension_(info.spec.dimension),
        claim_(claim),
        next_(info.tokens) {}

  uint64_t context_id() const override { return id_; }
  uint32_t dimension() const override { return dimension_; }
  uint64_t next_position() const override { return next_; }

  absl::StatusOr<AppendResult> Append(const TokenColumns& tokens) override {
    if (engine_.on_append) {
      if (absl::Status status = engine_.on_append(tokens); !status.ok()) return status;
    }
    MutexLock lock(engine_.mutex_);
    FakeContextEngine::Stored* stored = engine_.Find(context_);
    if (stored == nullptr) return NoContext();
    if (stored->claim != claim_) return absl::AbortedError("a later stream has claimed it");
    if (stored->info.sealed) return absl::FailedPreconditionError("the context is sealed");
    if (tokens.first_position > next_) {
      return absl::OutOfRangeError("a gap: expected " + std::to_string(next_));
    }
    if (tokens.first_position < next_) {
      const uint64_t row = dimension_ * sizeof(float);
      const std::string_view there = std::string_view(stored->embeddings)
                                         .substr(tokens.first_position * row, tokens.count * row);
      if (there != AsText(tokens.embeddings)) {
        return absl::AlreadyExistsError("other tokens are there");
      }
      return AppendResult{.next_position = next_, .repeated = true};
    }
    Store(tokens, *stored);
    next_ = stored->info.tokens;
    return AppendResult{.next_position = next_};
  }

 private:
  static void Store(const TokenColumns& tokens, FakeContextEngine::Stored& stored) {
    const auto column = [&](ByteView bytes, size_t width, char otherwise) {
      return bytes.empty() ? std::string(tokens.count * width, otherwise)
                           : std::string(AsText(bytes));
    };
    stored.ids += column(tokens.ids, 4, 0);
    stored.kinds += column(tokens.kinds, 1, static_cast<char>(tokens.kind));
    stored.times += column(tokens.times_unix_us, 8, 1);
    stored.embeddings += AsText(tokens.embeddings);
    for (const PayloadView& payload : tokens.payloads) {
      stored.payloads.emplace_back(payload, std::string(payload.bytes));
    }
    stored.info.tokens += tokens.count;
  }

  FakeContextEngine& engine_;
  const ContextRef context_;
  const uint64_t id_;
  const uint32_t dimension_;
  const uint64_t claim_;
  uint64_t next_;
};

FakeContextEngine::Stored* FakeContextEngine::Find(const ContextRef& ref) {
  for (auto& [name, stored] : contexts_) {
    if (ref == ContextRef(name) || ref == ContextRef(stored.info.id)) return &stored;
  }
  return nullptr;
}

absl::StatusOr<ContextEngine::Created> FakeContextEngine::Create(const CallContext&,
                                                                 const ContextSpec& spec) {
  MutexLock lock(mutex_);
  const auto [found, created] = contexts_.try_emplace(spec.name);
  ContextInfo& info = found->second.info;
  if (created) info = {.id = next_id_++, .spec = spec, .created_unix_us = 1'000'000};
  if (info.spec.dimension != spec.dimension) {
    return absl::FailedPreconditionError("dimension differs");
  }
  return Created{.info = info, .created = created};
}

absl::StatusOr<std::unique_ptr<AppendSession>> FakeContextEngine::Append(const CallContext&,
                                                                         const AppendStart& start) {
  MutexLock lock(mutex_);
  Stored* stored = Find(start.context);
  if (stored == nullptr) return NoContext();
  stored->writer_id = start.writer_id;
  last_start_ = start;
  return std::make_unique<FakeAppendSession>(*this, start.context, stored->info, ++stored->claim);
}

absl::StatusOr<std::unique_ptr<ContextReadSession>> FakeContextEngine::Read(
    const CallContext&, const ContextReadRequest& request) {
  MutexLock lock(mutex_);
  const Stored* stored = Find(request.context);
  if (stored == nullptr) return NoContext();
  if (request.first_position >= stored->info.tokens) {
    return absl::OutOfRangeError("the range begins behind the end");
  }
  return std::make_unique<FakeReadSession>(*stored, request, step_bytes, step_owner_);
}

absl::StatusOr<RangeSummary> FakeContextEngine::Summarize(const CallContext&,
                                                          const ContextRef& context, uint64_t first,
                                                          uint64_t count) {
  MutexLock lock(mutex_);
  if (Find(context) == nullptr) return NoContext();
  return RangeSummary{.first_position = first,
                      .count = count,
                      .mean = {0.5F},
                      .min = {-1.0F},
                      .max = {2.0F},
                      .mean_square_norm = 3,
                      .largest_importance = 0.25F,
                      .medoid = first + 1,
                      .top_ids = {7, 9},
                      .level = Level::kL2};
}

absl::StatusOr<ContextSearchAnswer> FakeContextEngine::Search(const CallContext&,
                                                              const ContextSearchRequest& request) {
  MutexLock lock(mutex_);
  last_search_ = request;
  ContextSearchAnswer answer{
      .contexts = 1, .segments = 2, .distances = 3, .reranked = 4, .unindexed = 5};
  const size_t dimension = request.dimension;
  for (size_t q = 0; q < request.queries.size() / dimension; ++q) {
    auto& hits = answer.hits.emplace_back();
    for (const ContextRef& ref : request.contexts) {
      const Stored* stored = Find(ref);
      if (stored == nullptr) return NoContext();
      for (uint64_t i = 0; i < stored->info.tokens; ++i) {
        float score = 0;
        for (size_t d = 0; d < dimension; ++d) {
          score += request.queries[q * dimension + d] *
                   LoadLittle<float>(stored->embeddings.data() + (i * dimension + d) * 4);
        }
        hits.push_back({.context_id = stored->info.id,
                        .position = i,
                        .first_position = i,
                        .score = score,
                        .kind = static_cast<TokenKind>(stored->kinds[i]),
                        .token_id = LoadLittle<uint32_t>(stored->ids.data() + i * 4),
                        .level = Level::kL1});
        for (const auto& [range, bytes] : stored->payloads) {
          if (i < range.first_position || i >= range.first_position + range.count) continue;
          hits.back().payload = StoredPayload{
              .first_position = range.first_position, .count = range.count, .bytes = bytes};
        }
      }
    }
    std::stable_sort(hits.begin(), hits.end(),
                     [](const auto& a, const auto& b) { return a.score > b.score; });
    if (hits.size() > request.k) hits.resize(request.k);
  }
  last_search_.queries = {};
  return answer;
}

absl::Status FakeContextEngine::Link(const CallContext&, const ContextRef& context,
                                     const BlockLink& link) {
  MutexLock lock(mutex_);
  Stored* stored = Find(context);
  if (stored == nullptr) return NoContext();
  stored->links.push_back(link);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<BlockLink>> FakeContextEngine::Links(const CallContext&,
                                                                const ContextRef& context, uint64_t,
                                                                uint64_t, uint64_t& next) {
  MutexLock lock(mutex_);
  const Stored* stored = Find(context);
  if (stored == nullptr) return NoContext();
  next = 99;
  return stored->links;
}

absl::StatusOr<uint64_t> FakeContextEngine::Seal(const CallContext&, const ContextRef& context) {
  MutexLock lock(mutex_);
  Stored* stored = Find(context);
  if (stored == nullptr) return NoContext();
  stored->info.sealed = true;
  return stored->info.tokens;
}

absl::StatusOr<uint64_t> FakeContextEngine::Delete(const CallContext&, const ContextRef& context,
                                                   bool wait) {
  MutexLock lock(mutex_);
  last_wait_ = wait;
  const Stored* stored = Find(context);
  if (stored == nullptr) return 0;
  const uint64_t tokens = stored->info.tokens;
  contexts_.erase(stored->info.spec.name);
  return tokens;
}

absl::StatusOr<ContextDescription> FakeContextEngine::Describe(const CallContext&,
                                                               const ContextRef& context,
                                                               uint32_t max_runs) {
  MutexLock lock(mutex_);
  const Stored* stored = Find(context);
  if (stored == nullptr) return NoContext();
  ContextDescription description{.info = stored->info,
                                 .writer_id = stored->writer_id,
                                 .payload_ranges = stored->payloads.size(),
                                 .links = stored->links.size(),
                                 .indexed_tokens = 1,
                                 .index_bytes = 2,
                                 .summaries = {2, 0, 1},
                                 .segments = max_runs};
  description.level_tokens[Index(Level::kL3)] = stored->info.tokens;
  description.level_bytes[Index(Level::kL3)] = stored->embeddings.size();
  description.runs.push_back(
      {.count = stored->info.tokens, .level = Level::kL3, .fidelity_bits = 32, .index = "growing"});
  return description;
}

absl::StatusOr<std::vector<ContextInfo>> FakeContextEngine::List(const CallContext&,
                                                                 const Labels& labels,
                                                                 uint32_t page_size,
                                                                 const std::string& page_token,
                                                                 std::string& next) {
  MutexLock lock(mutex_);
  std::vector<ContextInfo> page;
  for (auto at = contexts_.upper_bound(page_token); at != contexts_.end(); ++at) {
    const Labels& has = at->second.info.spec.labels;
    const bool all = std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
      return std::find(has.begin(), has.end(), label) != has.end();
    });
    if (!all) continue;
    if (page.size() == page_size) {
      next = page.back().spec.name;
      break;
    }
    page.push_back(at->second.info);
  }
  return page;
}

ContextSearchRequest FakeContextEngine::last_search() const {
  MutexLock lock(mutex_);
  return last_search_;
}

AppendStart FakeContextEngine::last_start() const {
  MutexLock lock(mutex_);
  return last_start_;
}

bool FakeContextEngine::last_wait() const {
  MutexLock lock(mutex_);
  return last_wait_;
}

}  // namespace mnemo
