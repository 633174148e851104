// Operations on spaces.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/call.h"
#include "storage/block/block_store.h"
#include "storage/block/space.h"
#include "storage/block/space_registry.h"

namespace mnemo {

class EventHub;

// By id, by name, or (monostate) not given, which is kInvalidArgument.
using SpaceRef = std::variant<std::monostate, uint64_t, std::string>;

// Thread-safe. Semantics and errors: proto/mnemo/v1/space.proto.
class SpaceEngine {
 public:
  struct Opened {
    SpaceRegistry::SpacePtr space;
    bool created = false;
  };
  struct Listed {
    SpaceRegistry::SpacePtr space;
    ScopeUsage usage;
    Reencoding reencoding;
  };

  SpaceEngine(SpaceRegistry& registry, BlockStore& blocks, EventHub& events)
      : registry_(registry), blocks_(blocks), events_(events) {}

  absl::StatusOr<Opened> Open(const CallContext& call, const SpaceSpec& spec, bool must_exist);
  absl::StatusOr<SpaceRegistry::SpacePtr> Resolve(const CallContext& call,
                                                  const SpaceRef& ref) const;
  absl::StatusOr<Listed> Get(const CallContext& call, const SpaceRef& ref) const;
  // At most `page_size` (0: 100; at most 1000); `next` is empty on the last page.
  absl::StatusOr<std::vector<Listed>> List(const CallContext& call, uint32_t page_size,
                                           const std::string& page_token, std::string& next) const;
  absl::StatusOr<SpaceRegistry::SpacePtr> Update(const CallContext& call, const SpaceRef& ref,
                                                 const SpacePolicy& policy,
                                                 const SpaceRegistry::Keep& keep);
  // The bytes of docs/formats/calibration.md.
  absl::StatusOr<std::string> GetCalibration(const CallContext& call, const SpaceRef& ref,
                                             uint32_t id) const;
  // Returns how many parts were deleted.
  absl::StatusOr<uint64_t> Delete(const CallContext& call, const SpaceRef& ref);

 private:
  SpaceRegistry& registry_;
  BlockStore& blocks_;
  EventHub& events_;
};

}  // namespace mnemo
