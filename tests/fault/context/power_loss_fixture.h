// A node with contexts whose machine can lose its power.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <random>

#include "tests/support/context_fixture.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/temp_dir.h"

namespace mnemo {

inline constexpr uint64_t kTenant = 7;

class ContextPowerLossTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(base_->CreateDirectory(dir_ / "graves"));
    ASSERT_OK(base_->CreateDirectory(dir_ / "data"));
    files_ = std::make_unique<FaultFileSystem>(*base_, dir_ / "graves");
  }
  absl::Status TryOpen() {
    MNEMO_ASSIGN_OR_RETURN(node_, ContextNode::Open(dir_ / "data", *files_, clock_));
    return absl::OkStatus();
  }
  void LosePower(std::optional<uint64_t> seed) {
    files_->SetDead(true);
    node_.reset();
    files_->SetDead(false);
    files_->Heal();
    ASSERT_OK(files_->DropUnsynced(seed));
  }
  ContextStore& store() { return node_->contexts(); }

  TempDir dir_;
  std::unique_ptr<FileSystem> base_ = MakePosixFileSystem();
  std::unique_ptr<FaultFileSystem> files_;
  FakeClock clock_;
  std::unique_ptr<ContextNode> node_;
};

// Of a run: MNEMO_TEST_SEED replays one.
inline uint64_t Seed() {
  const char* const given = std::getenv("MNEMO_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
}

}  // namespace mnemo
