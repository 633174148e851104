#include "tests/contract/golden/golden_scenario.h"

#include <fmt/format.h>

#include <map>
#include <memory>
#include <utility>

#include "storage/base/status_macros.h"
#include "storage/block/disk_levels.h"
#include "storage/block/space_registry.h"
#include "tests/support/block_store_fixture.h"
#include "tests/support/tier_fixture.h"

namespace mnemo {
namespace {

constexpr uint64_t kTenant = 7;
constexpr uint64_t kOtherTenant = 11;
// Parts of this space push the others to farther levels, and are deleted.
constexpr KeyScope kFiller{.tenant = kTenant, .space = 1};
constexpr uint64_t kFillerBytes = 128 * kKiB;
constexpr Nanos kTimeToLive = std::chrono::hours(1);

Group Attention(GroupKind kind, const std::string& name) {
  return {.name = name,
          .kind = kind,
          .layers = 2,
          .kv_heads = 1,
          .k_dimension = 32,
          .v_dimension = kind == GroupKind::kLatent ? 0u : 32u,
          .dtype = DType::kBF16,
          .rope = RopeFacts{.theta = 10'000,
                            .rotary_dimensions = 32,
                            .pairing = RopePairing::kHalf,
                            .scaling_kind = "linear",
                            .scaling_factor = 2}};
}

SpaceSpec Spec(const std::string& name, std::vector<Group> groups, Durability durability) {
  return {.name = name,
          .fingerprint = {.weights_digest = "sha256:00ff",
                          .quantization = "none",
                          .adapter = "adapter-" + name,
                          .kv_cache_dtype = "bf16",
                          .state_format = "golden 1"},
          .tokens_per_block = 16,
          .groups = std::move(groups),
          .policy = {.durability = durability}};
}

std::vector<SpaceSpec> AllSpecs() {
  Group parallel = Attention(GroupKind::kFull, "full");
  parallel.layers = 4;
  parallel.kv_heads = 2;
  parallel.tensor_parallel_size = 2;
  parallel.pipeline_layers = {1, 3};
  parallel.layout = Layout::kKvMajor;
  Group window = Attention(GroupKind::kWindow, "window");
  window.window_tokens = 40;
  window.optional = true;
  const Group state{.name = "state", .kind = GroupKind::kState, .layers = 1, .fixed_bytes = 3000};
  const Group opaque{.name = "all", .kind = GroupKind::kOpaque, .layers = 1};
  std::vector<SpaceSpec> specs = {
      Spec("sync", {parallel, window}, Durability::kSync),
      Spec("interval", {Attention(GroupKind::kLatent, "latent"), state}, Durability::kInterval),
      Spec("cache", {opaque}, Durability::kCache),
      // Apart: a space whose parts gained nothing is encoded only now and then.
      Spec("encoded", {opaque}, Durability::kCache), Spec("salted", {opaque}, Durability::kSync),
      Spec("doomed", {opaque}, Durability::kSync)};
  specs[2].policy.time_to_live_seconds = 86'400;
  specs[4].salt_required = true;
  return specs;
}

class Scenario {
 public:
  Scenario(std::string directory, FileSystem& files, Clock& clock)
      : options_(GoldenOptions(directory)), files_(files), clock_(clock) {}

  absl::StatusOr<GoldenContents> Run() {
    MNEMO_RETURN_IF_ERROR(Open());
    for (const SpaceSpec& spec : AllSpecs()) {
      const uint64_t tenant = spec.name == "salted" ? kOtherTenant : kTenant;
      MNEMO_ASSIGN_OR_RETURN(const auto opened, spaces_->Open(tenant, spec, false));
      by_name_[spec.name] = opened.first;
      contents_.tenants.insert(tenant);
    }
    MNEMO_RETURN_IF_ERROR(PutGeneration(0));
    MNEMO_RETURN_IF_ERROR(PushToFarLevels());
    MNEMO_RETURN_IF_ERROR(EncodeAtL3());
    MNEMO_RETURN_IF_ERROR(store_->EraseScope(kFiller, std::nullopt).status());
    MNEMO_RETURN_IF_ERROR(Close());
    MNEMO_RETURN_IF_ERROR(CompactInstances());
    // What follows stays in the write-ahead logs, and is about what is in tables.
    MNEMO_RETURN_IF_ERROR(Open());
    MNEMO_RETURN_IF_ERROR(PutGeneration(1));
    MNEMO_RETURN_IF_ERROR(Change());
    MNEMO_RETURN_IF_ERROR(CheckCoverage());
    MNEMO_RETURN_IF_ERROR(Close());
    return std::move(contents_);
  }

 private:
  absl::Status Open() {
    MNEMO_ASSIGN_OR_RETURN(store_, BlockStore::Open(options_, files_, clock_, nullptr));
    MNEMO_ASSIGN_OR_RETURN(spaces_, SpaceRegistry::Load(store_->state(), clock_));
    return absl::OkStatus();
  }
  absl::Status Close() {
    spaces_.reset();
    MNEMO_RETURN_IF_ERROR(store_->Close());
    store_.reset();
    return absl::OkStatus();
  }

  // One part, of `size` bytes where its space leaves that open.
  absl::StatusOr<PartKey> PutOne(const std::string& space_name, uint64_t chain, uint32_t depth,
                                 PartId part, uint64_t size, bool smooth,
                                 std::string_view salt = "") {
    const Space& space = *by_name_.at(space_name);
    PartKey key = TestPart(chain, depth, space.scope);
    key.part = part;
    if (!salt.empty()) {
      MNEMO_ASSIGN_OR_RETURN(key.salt, DigestOfSalt(salt));
    }
    key.shard = ShardOf(key.scope, key.salt, key.key.view());
    MNEMO_ASSIGN_OR_RETURN(const PartGeometry geometry, GeometryOf(space.spec, part));
    if (geometry.bytes != 0) size = geometry.bytes;
    WriteSpec spec = TestSpec(size, depth, space.spec.policy.durability);
    if (geometry.bytes != 0) spec.layout = geometry.sections;
    if (depth > 0) spec.parent = TestBlockKey(chain, depth - 1);
    if (chain % 2 == 1) spec.expires = clock_.Wall() + kTimeToLive;
    const std::string payload = smooth ? SmoothPayload(key, size) : TestPayload(key, 0, size);
    MNEMO_RETURN_IF_ERROR(PutPart(*store_, key, payload, spec));
    contents_.parts.push_back(key);
    return key;
  }

  // Chains 10 g to 10 g + 3 of every space; the odd ones expire.
  absl::Status PutGeneration(uint64_t generation) {
    for (uint64_t chain = 10 * generation; chain < 10 * generation + 4; ++chain) {
      const bool smooth = chain % 10 < 2;
      for (uint32_t depth = 0; depth < 2; ++depth) {
        for (const std::string name : {"sync", "interval"}) {
          for (const PartId& part : AllParts(by_name_.at(name)->spec)) {
            MNEMO_RETURN_IF_ERROR(PutOne(name, chain, depth, part, 0, smooth).status());
          }
        }
        // In tables, in blob files, and larger than any buffer of a block.
        const uint64_t size = depth == 0 ? 1 + 700 * (chain % 10) : 20'000;
        MNEMO_RETURN_IF_ERROR(PutOne("cache", chain, depth, {}, size, smooth).status());
        const std::string salt = fmt::format("salt {}", chain % 2);
        MNEMO_RETURN_IF_ERROR(PutOne("salted", chain, depth, {}, 500, smooth, salt).status());
        MNEMO_RETURN_IF_ERROR(PutOne("doomed", chain, depth, {}, 3000, smooth).status());
      }
    }
    return absl::OkStatus();
  }

  // Pushes what is there out of the nearest levels until `done`.
  template <typename Done>
  absl::Status Push(Done done, bool through_l3) {
    const uint64_t most = fillers_ + 2 * options_.l3_bytes / kFillerBytes;
    for (; fillers_ < most && !done(); ++fillers_) {
      const PartKey key = TestPart(fillers_, 0, kFiller);
      MNEMO_RETURN_IF_ERROR(
          PutPart(*store_, key, TestPayload(key, 0, kFillerBytes), TestSpec(kFillerBytes)));
      if (through_l3) MNEMO_RETURN_IF_ERROR(store_->Flush({}).status());
      MoveAll(*store_);
    }
    return absl::OkStatus();
  }

  // Until parts of every class lie at Disk.
  absl::Status PushToFarLevels() {
    return Push([this] { return FarEnough(); }, /*through_l3=*/true);
  }

  // L3 takes from L2 what is encoded there.
  absl::Status EncodeAtL3() {
    MNEMO_ASSIGN_OR_RETURN(const PartKey key,
                           PutOne("encoded", 20, 0, {}, 20'000, /*smooth=*/true));
    const auto encoded = [&] {
      const std::optional<PartState> state = store_->Describe(key);
      return state && state->codec != "raw";
    };
    MNEMO_RETURN_IF_ERROR(Push(encoded, /*through_l3=*/false));
    return store_->Flush({}).status();
  }

  bool FarEnough() const {
    std::set<Durability> far;
    for (const PartKey& key : contents_.parts) {
      const std::optional<PartState> state = store_->Describe(key);
      if (state && state->on_disk && state->disk_level == Level::kDisk) {
        far.insert(state->durability);
      }
    }
    return far.size() == 3;
  }

  // So that the fillers leave nothing behind, and all lies in tables.
  absl::Status CompactInstances() {
    std::unique_ptr<TierResources> resources = MakeTestResources();
    MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<DataDirectory> directory,
                           DataDirectory::Open(options_.directory, files_, clock_, /*node_id=*/1));
    for (const Level level : {Level::kL3, Level::kDisk}) {
      for (const Durability durability :
           {Durability::kCache, Durability::kInterval, Durability::kSync}) {
        InstanceOptions instance;
        instance.path = directory->InstancePath(level, durability);
        instance.level = level;
        instance.durability = durability;
        MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<Instance> opened,
                               Instance::Open(instance, files_, clock_, *resources, nullptr));
        MNEMO_RETURN_IF_ERROR(opened->Flush());
        MNEMO_RETURN_IF_ERROR(opened->Compact());
        MNEMO_RETURN_IF_ERROR(opened->Close());
      }
    }
    return absl::OkStatus();
  }

  absl::Status Change() {
    const auto key_of = [&](const std::string& name, uint64_t chain, uint32_t depth) {
      return TestPart(chain, depth, by_name_.at(name)->scope);
    };
    const std::vector<PartKey> pinned = {key_of("sync", 2, 0), key_of("cache", 2, 1),
                                         key_of("cache", 12, 1), key_of("interval", 12, 0)};
    MNEMO_ASSIGN_OR_RETURN(const uint64_t changed, store_->SetPinned(pinned, true));
    const std::vector<PartKey> erased = {key_of("sync", 0, 1),     key_of("sync", 13, 1),
                                         key_of("interval", 0, 1), key_of("interval", 13, 1),
                                         key_of("cache", 0, 1),    key_of("cache", 13, 1)};
    MNEMO_ASSIGN_OR_RETURN(const uint64_t gone, store_->Erase(erased));
    MNEMO_ASSIGN_OR_RETURN(const SaltDigest salt, DigestOfSalt("salt 1"));
    MNEMO_RETURN_IF_ERROR(store_->EraseScope(by_name_.at("salted")->scope, salt).status());
    const KeyScope doomed = by_name_.at("doomed")->scope;
    MNEMO_RETURN_IF_ERROR(store_->EraseScope(doomed, std::nullopt).status());
    MNEMO_RETURN_IF_ERROR(spaces_->Remove(doomed.tenant, doomed.space));
    const KeyScope cache = by_name_.at("cache")->scope;
    SpacePolicy policy = by_name_.at("cache")->spec.policy;
    policy.time_to_live_seconds = 3600;
    MNEMO_RETURN_IF_ERROR(spaces_->UpdatePolicy(cache.tenant, cache.space, policy).status());
    if (changed == pinned.size() && gone == erased.size()) return store_->Flush({}).status();
    return absl::FailedPreconditionError(fmt::format("{} of {} pinned, {} of {} erased", changed,
                                                     pinned.size(), gone, erased.size()));
  }

  // Every class at both levels, and raw and lossless parts at both.
  absl::Status CheckCoverage() const {
    std::set<std::pair<Level, Durability>> classes;
    std::set<std::pair<Level, bool>> codecs;
    for (const PartKey& key : contents_.parts) {
      const std::optional<PartState> state = store_->Describe(key);
      if (!state || !state->on_disk) continue;
      classes.emplace(state->disk_level, state->durability);
      if (state->level == state->disk_level) codecs.emplace(state->level, state->codec == "raw");
    }
    if (classes.size() == 6 && codecs.size() == 4) return absl::OkStatus();
    std::string found;
    for (const auto& [level, raw] : codecs) {
      found += fmt::format(" {} {}", LevelLabel(level), raw ? "raw" : "lossless");
    }
    return absl::FailedPreconditionError(
        fmt::format("{} of 6 classes; of levels and codecs only{}", classes.size(), found));
  }

  const BlockStoreOptions options_;
  FileSystem& files_;
  Clock& clock_;
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<SpaceRegistry> spaces_;
  std::map<std::string, SpaceRegistry::SpacePtr> by_name_;
  uint64_t fillers_ = 0;
  GoldenContents contents_;
};

}  // namespace

BlockStoreOptions GoldenOptions(const std::string& directory) {
  BlockStoreOptions options;
  options.directory = directory;
  options.l1_bytes = 64 * kMiB;
  options.l2_bytes = 32 * kMiB;
  options.disk_cache_bytes = 64 * kMiB;
  options.l3_bytes = 64 * kMiB;
  options.archive_bytes = 64 * kMiB;
  // A tenth of each level is enough to move on.
  options.high_watermark = 0.1;
  options.low_watermark = 0.1;
  return options;
}

absl::StatusOr<GoldenContents> WriteGoldenDirectory(const std::string& directory, FileSystem& files,
                                                    Clock& clock) {
  return Scenario(directory, files, clock).Run();
}

}  // namespace mnemo
