#include "server/gate/gate.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <set>
#include <thread>

#include "tests/support/fake_authenticator.h"
#include "tests/unit/server/rpc/rpc_fixture.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

TEST(GateRulesTest, EveryMethodHasOneRuleAndEveryRuleAMethod) {
  std::multiset<std::string> ruled;
  for (const MethodRule& rule : AllMethodRules()) ruled.emplace(rule.method);
  std::multiset<std::string> methods;
  for (const auto* method : AllMethods()) {
    methods.insert(PathOf(*method));
    EXPECT_EQ(ruled.count(PathOf(*method)), 1u) << PathOf(*method);
  }
  EXPECT_EQ(ruled, methods);
  EXPECT_GE(methods.size(), 40u);
}

TEST(GateRulesTest, OnlyStreamsThatTheirClientsEndAreEndless) {
  for (const MethodRule& rule : AllMethodRules()) {
    EXPECT_EQ(rule.endless, rule.method == "mnemo.v1.BlockService/Watch" ||
                                rule.method == "mnemo.v1.ContextService/Append")
        << rule.method;
  }
}

TEST_F(RpcTest, NoMethodComesPastTheGate) {
  node_.gate().StopAdmitting();
  for (const auto* method : AllMethods()) {
    grpc::ClientContext context;
    EXPECT_THAT(CallRaw(channel_, PathOf(*method), "", nullptr, &context),
                GrpcIs(grpc::StatusCode::UNAVAILABLE, HasSubstr("shutting down")))
        << PathOf(*method);
    const auto pushback = context.GetServerTrailingMetadata().find("grpc-retry-pushback-ms");
    EXPECT_NE(pushback, context.GetServerTrailingMetadata().end()) << PathOf(*method);
    node_.observer().AwaitFinished(PathOf(*method), absl::StatusCode::kUnavailable, 1);
  }
  EXPECT_EQ(node_.observer().shed("shutdown"), AllMethods().size());
}

TEST_F(RpcTest, EveryMethodSurvivesAnEmptyAndADamagedMessage) {
  for (const auto* method : AllMethods()) {
    for (const std::string& message :
         {std::string(), std::string("\xff\xff\xff\xff", 4), std::string(100000, '\x0a')}) {
      const grpc::Status status = CallRaw(channel_, PathOf(*method), message);
      EXPECT_NE(status.error_code(), grpc::StatusCode::UNKNOWN) << PathOf(*method);
      EXPECT_NE(status.error_code(), grpc::StatusCode::UNAVAILABLE) << PathOf(*method);
    }
  }
  v1::GetNodeStatusResponse status;
  grpc::ClientContext context;
  EXPECT_THAT(admin_->GetNodeStatus(&context, {}, &status), GrpcOk());
}

TEST_F(RpcTest, HealthFollowsReadiness) {
  const auto check = [this](const std::string& service) {
    std::string request =
        service.empty() ? "" : "\x0a" + std::string(1, char(service.size())) + service;
    std::string answer;
    const grpc::Status status = CallRaw(channel_, "grpc.health.v1.Health/Check", request, &answer);
    return status.ok() ? answer : std::string(status.error_message());
  };
  const std::string serving("\x08\x01", 2);
  const std::string not_serving("\x08\x02", 2);
  EXPECT_EQ(check(""), serving);
  for (const char* name :
       {"mnemo.ready", "mnemo.v1.BlockService", "mnemo.v1.SpaceService", "mnemo.v1.AdminService"}) {
    EXPECT_EQ(check(name), not_serving) << name;
  }
  node_.server().SetReady(true);
  EXPECT_EQ(check("mnemo.ready"), serving);
  EXPECT_EQ(check("mnemo.v1.BlockService"), serving);
  node_.server().SetReady(false);
  EXPECT_EQ(check("mnemo.ready"), not_serving);
  EXPECT_EQ(check(""), serving);
}

TEST_F(RpcTest, ReflectionNamesEveryService) {
  std::string answer;
  // ServerReflectionRequest{list_services = "*"}.
  CallRaw(channel_, "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
          std::string("\x3a\x01*", 3), &answer);
  for (const char* name :
       {"mnemo.v1.BlockService", "mnemo.v1.SpaceService", "mnemo.v1.AdminService",
        "mnemo.v1.AuthService", "mnemo.v1.StreamService", "grpc.health.v1.Health"}) {
    EXPECT_THAT(answer, HasSubstr(name));
  }
  // A service that is served and that AllMethods does not know would escape the
  // tests above.
  size_t ours = 0;
  for (size_t at = answer.find("mnemo.v1."); at != std::string::npos;
       at = answer.find("mnemo.v1.", at + 1)) {
    ++ours;
  }
  std::set<const google::protobuf::ServiceDescriptor*> known;
  for (const auto* method : AllMethods()) known.insert(method->service());
  EXPECT_EQ(ours, known.size());
}

TEST_F(RpcTest, TheUnixSocketServesTheSame) {
  const auto channel =
      grpc::CreateChannel(node_.unix_address(), grpc::InsecureChannelCredentials());
  grpc::ClientContext context;
  v1::GetNodeStatusResponse status;
  EXPECT_THAT(v1::AdminService::NewStub(channel)->GetNodeStatus(&context, {}, &status), GrpcOk());
}

TEST_F(RpcTest, ATakenAddressIsNamed) {
  EXPECT_THAT(
      RpcServer::Start({.addresses = {"127.0.0.1:0", node_.address()}}, node_.gate(), node_.rooms())
          .status(),
      StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(node_.address())));
}

TEST_F(RpcTest, ShutdownEndsWatchesAtOnceAndMayBeRepeated) {
  Open(OpaqueSpace());
  grpc::ClientContext context;
  v1::WatchRequest request;
  *request.mutable_space() = Ref("opaque");
  auto watch = blocks_->Watch(&context, request);
  v1::WatchResponse events;
  ASSERT_TRUE(watch->Read(&events));
  // Long before the drain is over, or this test takes an hour.
  node_.Shutdown(std::chrono::hours(1));
  EXPECT_FALSE(watch->Read(&events));
  EXPECT_THAT(watch->Finish(), GrpcIs(grpc::StatusCode::UNAVAILABLE, HasSubstr("shutting down")));
  node_.Shutdown();
  node_.server().SetReady(true);
}

class OneThreadRpcTest : public RpcTest {
 protected:
  OneThreadRpcTest() : RpcTest({.default_threads = 1}) {}
};

TEST_F(OneThreadRpcTest, WorkWhoseDeadlineHasPassedIsNotDone) {
  Open(OpaqueSpace());
  PutOpaque("k", "x");
  // The class's one thread is busy while the call comes, until its time is over.
  Gate& gate = node_.gate();
  CallContext busy;
  ASSERT_OK(gate.Admit(RuleOf("mnemo.v1.BlockService/Delete"), {}, MonoTime::max(), busy));
  ASSERT_OK(gate.Submit(busy, [&] {
    while (gate.queued(CallClass::kDefault) == 0) std::this_thread::yield();
    node_.clock().Advance(std::chrono::seconds(60));
  }));
  v1::DeleteRequest request;
  *request.mutable_space() = Ref("opaque");
  request.mutable_keys()->add_keys("k");
  grpc::ClientContext context;
  v1::DeleteResponse response;
  EXPECT_THAT(blocks_->Delete(&context, request, &response),
              GrpcIs(grpc::StatusCode::DEADLINE_EXCEEDED, HasSubstr("in the queue")));
  EXPECT_EQ(node_.store().parts(), 1u);
}

TEST_F(RpcTest, AShedCallIsToldWhenToComeAgain) {
  Open(OpaqueSpace());
  node_.gate().StopAdmitting();
  grpc::ClientContext context;
  v1::MatchRequest request;
  *request.mutable_space() = Ref("opaque");
  request.add_keys("k");
  v1::MatchResponse response;
  EXPECT_THAT(blocks_->Match(&context, request, &response),
              GrpcIs(grpc::StatusCode::UNAVAILABLE, HasSubstr("shutting down")));
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto pushback = trailers.find("grpc-retry-pushback-ms");
  ASSERT_NE(pushback, trailers.end());
  EXPECT_EQ(std::string(pushback->second.data(), pushback->second.size()), "100");
}

class GateTest : public ::testing::Test {
 protected:
  FakeAuthenticator authenticator_;
  FakeClock clock_;
  CountingObserver observer_;
};

TEST_F(GateTest, AFullQueueShedsNamingTheClass) {
  Gate gate({.critical_threads = 1, .max_queued = 1}, authenticator_, clock_, observer_);
  CallContext call;
  ASSERT_OK(gate.Admit(RuleOf("mnemo.v1.BlockService/Match"), {}, MonoTime::max(), call));
  Mutex mutex;
  CondVar changed;
  bool running = false;
  bool released = false;
  ASSERT_OK(gate.Submit(call, [&] {
    MutexLock lock(mutex);
    running = true;
    changed.SignalAll();
    while (!released) changed.Wait(mutex);
  }));
  {
    MutexLock lock(mutex);
    while (!running) changed.Wait(mutex);
  }
  ASSERT_OK(gate.Submit(call, [] {}));
  EXPECT_THAT(gate.Submit(call, [] {}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("critical")));
  EXPECT_EQ(observer_.shed("queue-full"), 1u);
  // Other classes have queues of their own.
  CallContext batch;
  ASSERT_OK(gate.Admit(RuleOf("mnemo.v1.BlockService/Put"), {}, MonoTime::max(), batch));
  EXPECT_OK(gate.Submit(batch, [] {}));
  {
    MutexLock lock(mutex);
    released = true;
    changed.SignalAll();
  }
  gate.Shutdown();
}

TEST_F(GateTest, AStoppingGateAdmitsNothingNew) {
  Gate gate({}, authenticator_, clock_, observer_);
  CallContext call;
  gate.StopAdmitting();
  EXPECT_THAT(gate.Admit(RuleOf("mnemo.v1.BlockService/Match"), {}, MonoTime::max(), call),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("shutting down")));
  EXPECT_EQ(observer_.shed("shutdown"), 1u);
  gate.Shutdown();
}

TEST_F(GateTest, GivesADeadlineToWhoHasNone) {
  Gate gate({.default_deadline = std::chrono::seconds(3)}, authenticator_, clock_, observer_);
  CallContext call;
  ASSERT_OK(gate.Admit(RuleOf("mnemo.v1.BlockService/Match"), {}, MonoTime::max(), call));
  EXPECT_EQ(call.deadline, clock_.Mono() + std::chrono::seconds(3));
  ASSERT_OK(gate.Admit(RuleOf("mnemo.v1.BlockService/Watch"), {}, MonoTime::max(), call));
  EXPECT_EQ(call.deadline, MonoTime::max());
}

TEST_F(GateTest, OptionsNameFieldAndRange) {
  EXPECT_OK(GateOptions{}.Validate());
  EXPECT_THAT((GateOptions{.critical_threads = 0}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("critical_threads is 0")));
  EXPECT_THAT((GateOptions{.inflight_bytes = 1}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("inflight_bytes is 1")));
  EXPECT_THAT((GateOptions{.stall_limit = Nanos(1)}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("stall_limit")));
}

}  // namespace
}  // namespace mnemo
