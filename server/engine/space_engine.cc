#include "server/engine/space_engine.h"

#include <fmt/format.h>

#include "server/engine/event_hub.h"
#include "storage/base/status_macros.h"

namespace mnemo {

absl::StatusOr<SpaceEngine::Opened> SpaceEngine::Open(const CallContext& call,
                                                      const SpaceSpec& spec, bool must_exist) {
  MNEMO_ASSIGN_OR_RETURN(auto opened, registry_.Open(call.identity.tenant, spec, must_exist));
  return Opened{.space = std::move(opened.first), .created = opened.second};
}

absl::StatusOr<SpaceRegistry::SpacePtr> SpaceEngine::Resolve(const CallContext& call,
                                                             const SpaceRef& ref) const {
  if (const uint64_t* id = std::get_if<uint64_t>(&ref)) {
    return registry_.ById(call.identity.tenant, *id);
  }
  if (const std::string* name = std::get_if<std::string>(&ref)) {
    return registry_.ByName(call.identity.tenant, *name);
  }
  return absl::InvalidArgumentError("space is absent; it must be an id or a name");
}

absl::StatusOr<SpaceEngine::Listed> SpaceEngine::Get(const CallContext& call,
                                                     const SpaceRef& ref) const {
  MNEMO_ASSIGN_OR_RETURN(auto space, Resolve(call, ref));
  const ScopeUsage usage = blocks_.Usage(space->scope);
  const Reencoding reencoding = blocks_.ReencodingOf(space->scope);
  return Listed{.space = std::move(space), .usage = usage, .reencoding = reencoding};
}

absl::StatusOr<std::vector<SpaceEngine::Listed>> SpaceEngine::List(const CallContext& call,
                                                                   uint32_t page_size,
                                                                   const std::string& page_token,
                                                                   std::string& next) const {
  constexpr uint32_t kDefaultPage = 100;
  constexpr uint32_t kLargestPage = 1000;
  if (page_size > kLargestPage) {
    return absl::InvalidArgumentError(
        fmt::format("page_size is {}; it must be at most {}", page_size, kLargestPage));
  }
  if (page_size == 0) page_size = kDefaultPage;
  auto spaces = registry_.List(call.identity.tenant, page_token, page_size + size_t{1});
  next.clear();
  if (spaces.size() > page_size) {
    spaces.pop_back();
    next = spaces.back()->spec.name;
  }
  std::vector<Listed> page;
  page.reserve(spaces.size());
  for (auto& space : spaces) {
    const ScopeUsage usage = blocks_.Usage(space->scope);
    const Reencoding reencoding = blocks_.ReencodingOf(space->scope);
    page.push_back({.space = std::move(space), .usage = usage, .reencoding = reencoding});
  }
  return page;
}

absl::StatusOr<SpaceRegistry::SpacePtr> SpaceEngine::Update(const CallContext& call,
                                                            const SpaceRef& ref,
                                                            const SpacePolicy& policy,
                                                            const SpaceRegistry::Keep& keep) {
  MNEMO_ASSIGN_OR_RETURN(const auto space, Resolve(call, ref));
  MNEMO_ASSIGN_OR_RETURN(
      auto updated, registry_.UpdatePolicy(call.identity.tenant, space->scope.space, policy, keep));
  blocks_.SpaceChanged(space->scope);
  return updated;
}

absl::StatusOr<std::string> SpaceEngine::GetCalibration(const CallContext& call,
                                                        const SpaceRef& ref, uint32_t id) const {
  MNEMO_ASSIGN_OR_RETURN(const auto space, Resolve(call, ref));
  return blocks_.CalibrationOf(space->scope, id);
}

absl::StatusOr<uint64_t> SpaceEngine::Delete(const CallContext& call, const SpaceRef& ref) {
  const auto space = Resolve(call, ref);
  if (absl::IsNotFound(space.status())) return 0;
  MNEMO_RETURN_IF_ERROR(space.status());
  // The record goes last: a crash in between leaves a space that can be
  // deleted again, never blocks that no space names.
  MNEMO_ASSIGN_OR_RETURN(uint64_t parts, blocks_.EraseScope((*space)->scope, std::nullopt));
  MNEMO_RETURN_IF_ERROR(registry_.Remove(call.identity.tenant, (*space)->scope.space));
  // What writers that had found the space finished meanwhile.
  MNEMO_ASSIGN_OR_RETURN(const uint64_t late, blocks_.EraseScope((*space)->scope, std::nullopt));
  events_.PublishCleared((*space)->scope);
  return parts + late;
}

}  // namespace mnemo
