#include "mnemo/client.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "client/cpp/core.h"
#include "storage/base/status_macros.h"

namespace mnemo::client {

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const ClientOptions& options) {
  MNEMO_RETURN_IF_ERROR(options.Validate());
  return std::unique_ptr<Client>(new Client(std::make_unique<Core>(options)));
}

Client::Client(std::unique_ptr<Core> core) : core_(std::move(core)) {}
Client::~Client() = default;

Spaces Client::spaces() { return Spaces(*core_); }
Blocks Client::blocks() { return Blocks(*core_); }
AsyncBlocks Client::async_blocks() { return AsyncBlocks(*core_); }
Contexts Client::contexts() { return Contexts(*core_); }
Admin Client::admin() { return Admin(*core_); }
Auth Client::auth() { return Auth(*core_); }

absl::StatusOr<std::unique_ptr<SharedMemory>> Client::AllocateShared(size_t bytes) {
  return core_->lane().memory().Allocate(bytes);
}

absl::StatusOr<std::unique_ptr<SharedMemory>> Client::Share(int descriptor, MutableBytes mapped) {
  return core_->lane().memory().Adopt(descriptor, mapped);
}

absl::Status Client::WaitUntilConnected(Millis timeout) {
  const auto deadline = std::chrono::system_clock::now() + timeout;
  if (core_->NextConnection().channel->WaitForConnected(deadline)) return absl::OkStatus();
  return absl::UnavailableError(
      fmt::format("{} cannot be reached within {} ms", core_->options().target, timeout.count()));
}

}  // namespace mnemo::client
