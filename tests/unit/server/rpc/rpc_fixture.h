// A node in this process: real store, real engine, real sockets on port 0, and
// a clock that only tests turn.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mnemo/v1/admin.grpc.pb.h"
#include "mnemo/v1/block.grpc.pb.h"
#include "mnemo/v1/space.grpc.pb.h"
#include "mnemo/v1/stream.grpc.pb.h"
#include "server/engine/admin_engine.h"
#include "server/engine/block_engine.h"
#include "server/engine/event_hub.h"
#include "server/engine/space_engine.h"
#include "server/engine/stored_context_engine.h"
#include "server/gate/gate.h"
#include "server/identity/identity_admin.h"
#include "server/identity/identity_book.h"
#include "server/identity/ticket_book.h"
#include "server/identity/tls_material.h"
#include "server/rpc/admin_service.h"
#include "server/rpc/server.h"
#include "storage/codec/envelope.h"
#include "tests/support/block_store_fixture.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {

// Every method of the contract, from the descriptors.
std::vector<const google::protobuf::MethodDescriptor*> AllMethods();
// "mnemo.v1.BlockService/Match"
std::string PathOf(const google::protobuf::MethodDescriptor& method);
// Calls a method with whatever bytes for a message, and ends its own side.
grpc::Status CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& path,
                     const std::string& message, std::string* answer = nullptr,
                     grpc::ClientContext* context = nullptr);

// Facts that no test computes from.
class FixedFacts final : public NodeFacts {
 public:
  Status NodeStatus() const override;
  std::array<LevelTimes, kLevelCount> LevelLatencies() const override;
  std::vector<Setting> Settings() const override;
};

// Counts what the gate tells. Thread-safe.
class CountingObserver final : public RpcObserver {
 public:
  void OnQueued(CallClass, Nanos) override {}
  void OnShed(CallClass, std::string_view reason) override;
  void OnFinished(const MethodRule& rule, absl::StatusCode code, Nanos) override;
  void OnAuthenticated(AuthOutcome outcome) override;
  void OnRefused(const RefusedCall& call) override;
  void OnChange(const IdentityChange& change);
  uint64_t shed(const std::string& reason) const;
  uint64_t finished(const std::string& method, absl::StatusCode code) const;
  uint64_t authenticated(AuthOutcome outcome) const;
  // "METHOD PRINCIPAL CODE" of each; "-" for a principal that nobody knows.
  std::vector<std::string> refused() const;
  // "WHAT TENANT/PRINCIPAL by PRINCIPAL" of each.
  std::vector<std::string> changes() const;
  // Blocks until `count` calls of the method have ended with `code`.
  void AwaitFinished(const std::string& method, absl::StatusCode code, uint64_t count);

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<std::string, uint64_t> shed_ ABSL_GUARDED_BY(mutex_);
  std::map<AuthOutcome, uint64_t> authenticated_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> refused_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> changes_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<std::string, absl::StatusCode>, uint64_t> finished_ ABSL_GUARDED_BY(mutex_);
};

// So that the gate's own deadline of 30 s, on a clock that a test turns, does not
// end a call first.
void LiveLong(grpc::ClientContext& context);

// Lets time pass, and the watchdog look, until it has ended a stream whose client
// stands still. Time passes only while a stream waits for its client: what passes
// while the server works would bring the call's deadline nearer.
void PassUntilStalled(FakeClock& clock, Gate& gate, const CountingObserver& observer);

// Not thread-safe, but the clock and what it serves are.
class TestNode {
 public:
  explicit TestNode(const GateOptions& gate = {}, BlockStoreOptions store = SmallStore(""),
                    const IdentityOptions& identity = {}, const TlsMaterial* tls = nullptr);
  ~TestNode();
  TestNode(const TestNode&) = delete;
  TestNode& operator=(const TestNode&) = delete;

  // Ends the calls under way at once, or within `drain`.
  void Shutdown(Nanos drain = Nanos(0)) { server_->Shutdown(drain); }

  const std::string& address() const { return server_->bound_addresses()[0]; }
  std::string unix_address() const { return "unix:" + dir_ / "socket"; }
  // A channel of its own, with small windows if the reader is to feel them.
  std::shared_ptr<grpc::Channel> NewChannel(bool small_windows = false) const;

  FakeClock& clock() { return clock_; }
  Gate& gate() { return *gate_; }
  BlockStore& store() { return *store_; }
  BlockEngine& blocks() { return *blocks_; }
  ContextEngine& contexts() { return *contexts_; }
  IdentityBook& identity() { return *identity_; }
  RpcRooms rooms();
  RpcServer& server() { return *server_; }
  TicketBook& tickets() { return tickets_; }
  CountingObserver& observer() { return observer_; }

 private:
  TempDir dir_;
  FakeClock clock_;
  UnsyncedFileSystem files_;
  CountingObserver observer_;
  NullEngineObserver engine_observer_;
  FixedFacts facts_;
  EventHub events_{1};
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<IdentityBook> identity_;
  std::unique_ptr<IdentityAdmin> identity_admin_;
  TicketBook tickets_{TicketOptions(), clock_};
  std::unique_ptr<SpaceRegistry> registry_;
  std::unique_ptr<SpaceEngine> spaces_;
  std::unique_ptr<BlockEngine> blocks_;
  std::unique_ptr<ContextStore> context_store_;
  std::unique_ptr<ContextEngine> contexts_;
  std::unique_ptr<AdminEngine> admin_;
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<RpcServer> server_;
};

// A part as a client sees it.
struct ClientPart {
  std::string key;
  v1::PartId part;
  std::string bytes;
  uint32_t depth = 0;
  std::string parent;
  std::string stretch;
};

struct PutAnswer {
  grpc::Status status;
  std::vector<v1::PutGrant> grants;
  std::map<uint32_t, v1::PutResult> results;
};

struct GetAnswer {
  grpc::Status status;
  std::map<uint32_t, v1::GetHeader> headers;  // the last of each
  std::map<uint32_t, std::string> bytes;      // as they came
  std::vector<v1::GetResponse> messages;
};

// Tests over the wire: stubs of every service, and spaces to use.
class RpcTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kPartBytes = 32768;  // of KvSpace
  explicit RpcTest(const GateOptions& gate = {}, const BlockStoreOptions& store = SmallStore(""),
                   const IdentityOptions& identity = {})
      : node_(gate, store, identity), channel_(node_.NewChannel()) {}

  // Two groups: "attention" (full, 4 layers, K and V) and "swa" (window of 32
  // tokens, optional); 16 tokens a block.
  static v1::Space KvSpace(const std::string& name = "kv");
  // One part of any size.
  static v1::Space OpaqueSpace(const std::string& name = "opaque");
  v1::Space Open(const v1::Space& space);

  static v1::SpaceRef Ref(const std::string& name);
  // Bytes that follow from a seed.
  static std::string Bytes(uint64_t seed, uint64_t size);
  static v1::PutStart StartOf(const std::string& space, const std::vector<ClientPart>& parts);

  // Sends everything that the grants allow.
  PutAnswer Put(const v1::PutStart& start, const std::vector<ClientPart>& parts);
  PutAnswer Put(const std::string& space, const std::vector<ClientPart>& parts) {
    return Put(StartOf(space, parts), parts);
  }
  // Puts an opaque block, and fails the test if that fails.
  void PutOpaque(const std::string& key, const std::string& bytes);
  GetAnswer Get(const v1::GetRequest& request);
  v1::GetRequest GetOf(const std::string& space, const std::vector<std::string>& keys) const;
  grpc::Status Match(const v1::MatchRequest& request, v1::MatchResponse* response);

  TestNode node_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::SpaceService::Stub> spaces_ = v1::SpaceService::NewStub(channel_);
  std::unique_ptr<v1::BlockService::Stub> blocks_ = v1::BlockService::NewStub(channel_);
  std::unique_ptr<v1::AdminService::Stub> admin_ = v1::AdminService::NewStub(channel_);
};

MATCHER_P2(GrpcIs, code, message_matcher, "") {
  *result_listener << arg.error_code() << ": " << arg.error_message();
  return arg.error_code() == code &&
         ::testing::ExplainMatchResult(message_matcher, arg.error_message(), result_listener);
}
MATCHER(GrpcOk, "is OK") {
  *result_listener << arg.error_code() << ": " << arg.error_message();
  return arg.ok();
}

}  // namespace mnemo
