// The C++ client and the real daemon, with a space of opaque parts.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mnemo/client.h"
#include "tests/support/daemon/daemon_process.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo::client {

class DaemonTest : public ::testing::Test {
 protected:
  // `usual`: of calls that say nothing else.
  explicit DaemonTest(const std::string& memory_total, CallOptions usual = {})
      : memory_total_(memory_total), usual_(usual) {}

  void StartDaemon(const std::vector<std::string>& settings = {}) {
    std::vector<std::string> all = {"--memory-total=" + memory_total_, "--disk-total=1GiB"};
    all.insert(all.end(), settings.begin(), settings.end());
    auto daemon = DaemonProcess::Start(folder_.path(), all);
    ASSERT_OK(daemon);
    daemon_ = *std::move(daemon);
  }
  void Connect(const ClientOptions& options) {
    auto client = Client::Connect(options);
    ASSERT_OK(client);
    client_ = *std::move(client);
    Space space{.name = "opaque", .tokens_per_block = 16};
    space.groups = {{.name = "bytes", .kind = GroupKind::kOpaque, .layers = 1}};
    ASSERT_OK(client_->spaces().Open(space));
  }

  absl::StatusOr<PutResult> Put(const std::string& key, Bytes data) {
    return Put(key, data, usual_);
  }
  absl::StatusOr<PutResult> Put(const std::string& key, Bytes data, const CallOptions& options) {
    return client_->blocks().Put({.space = "opaque", .parts = {{.key = key, .data = data}}},
                                 options);
  }
  absl::StatusOr<GetResult> Get(std::string_view key, MutableBytes into) {
    return Get(key, into, usual_);
  }
  absl::StatusOr<GetResult> Get(std::string_view key, MutableBytes into,
                                const CallOptions& options) {
    const Destination to{.memory = into};
    return client_->blocks().Get(
        {.space = "opaque", .keys = {&key, 1}, .destinations = {&to, 1}, .verify = true}, options);
  }

  const std::string memory_total_;
  const CallOptions usual_;
  TempDir folder_;
  std::unique_ptr<DaemonProcess> daemon_;
  std::unique_ptr<Client> client_;
};

}  // namespace mnemo::client
