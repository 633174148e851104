#include "tests/unit/server/rpc/rpc_fixture.h"

#include <google/protobuf/descriptor.h>
#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "mnemo/v1/auth.grpc.pb.h"
#include "mnemo/v1/context.grpc.pb.h"

namespace mnemo {
namespace {

constexpr uint64_t kMaxPiece = kMiB;

}  // namespace

NodeFacts::Status FixedFacts::NodeStatus() const {
  return {.node_id = "node-1",
          .version = "1.2.3",
          .ready = true,
          .problems = {"none"},
          .contexts = {.waiting = 1,
                       .l3 = {.runs = 2, .bytes = 3},
                       .archive = {.runs = 4, .bytes = 5},
                       .l3_capacity_bytes = 6}};
}

std::array<NodeFacts::LevelTimes, kLevelCount> FixedFacts::LevelLatencies() const {
  std::array<LevelTimes, kLevelCount> times;
  times[0].p99_objective_us = 100;
  return times;
}

std::vector<NodeFacts::Setting> FixedFacts::Settings() const {
  return {{.key = "memory.total", .value = "1GiB", .origin = "flag", .description = "RAM."}};
}

std::vector<const google::protobuf::MethodDescriptor*> AllMethods() {
  std::vector<const google::protobuf::MethodDescriptor*> methods;
  for (const auto* file :
       {v1::OpenSpaceRequest::descriptor()->file(), v1::OfferRequest::descriptor()->file(),
        v1::CreateContextRequest::descriptor()->file(),
        v1::CreateTenantRequest::descriptor()->file(), v1::OpenStreamRequest::descriptor()->file(),
        v1::GetNodeStatusRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        methods.push_back(file->service(s)->method(m));
      }
    }
  }
  return methods;
}

std::string PathOf(const google::protobuf::MethodDescriptor& method) {
  return std::string(method.service()->full_name()) + "/" + std::string(method.name());
}

grpc::Status CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& path,
                     const std::string& message, std::string* answer,
                     grpc::ClientContext* context) {
  grpc::ClientContext own;
  if (context == nullptr) context = &own;
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  const auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  auto call = stub.PrepareCall(context, "/" + path, &queue);
  call->StartCall(nullptr);
  if (next()) {
    const grpc::Slice slice(message);
    call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
    next();
    grpc::ByteBuffer reply;
    call->Read(&reply, nullptr);
    std::vector<grpc::Slice> slices;
    if (next() && answer != nullptr && reply.Dump(&slices).ok()) {
      for (const grpc::Slice& piece : slices) {
        answer->append(reinterpret_cast<const char*>(piece.begin()), piece.size());
      }
    }
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  next();
  queue.Shutdown();
  while (next()) {
  }
  return status;
}

void CountingObserver::OnShed(CallClass, std::string_view reason) {
  MutexLock lock(mutex_);
  ++shed_[std::string(reason)];
}

void CountingObserver::OnFinished(const MethodRule& rule, absl::StatusCode code, Nanos) {
  MutexLock lock(mutex_);
  ++finished_[{std::string(rule.method), code}];
  changed_.SignalAll();
}

void CountingObserver::OnAuthenticated(AuthOutcome outcome) {
  MutexLock lock(mutex_);
  ++authenticated_[outcome];
}

void CountingObserver::OnRefused(const RefusedCall& call) {
  EXPECT_FALSE(call.peer.empty());
  MutexLock lock(mutex_);
  refused_.push_back(std::string(call.method) + " " +
                     (call.caller != nullptr ? call.caller->principal : "-") + " " +
                     absl::StatusCodeToString(call.status.code()));
}

void CountingObserver::OnChange(const IdentityChange& change) {
  MutexLock lock(mutex_);
  changes_.push_back(std::string(change.what) + " " + std::string(change.tenant) + "/" +
                     std::string(change.principal) + " by " + change.by.principal);
}

std::vector<std::string> CountingObserver::changes() const {
  MutexLock lock(mutex_);
  return changes_;
}

uint64_t CountingObserver::authenticated(AuthOutcome outcome) const {
  MutexLock lock(mutex_);
  const auto found = authenticated_.find(outcome);
  return found == authenticated_.end() ? 0 : found->second;
}

std::vector<std::string> CountingObserver::refused() const {
  MutexLock lock(mutex_);
  return refused_;
}

uint64_t CountingObserver::shed(const std::string& reason) const {
  MutexLock lock(mutex_);
  const auto found = shed_.find(reason);
  return found == shed_.end() ? 0 : found->second;
}

uint64_t CountingObserver::finished(const std::string& method, absl::StatusCode code) const {
  MutexLock lock(mutex_);
  const auto found = finished_.find({method, code});
  return found == finished_.end() ? 0 : found->second;
}

void CountingObserver::AwaitFinished(const std::string& method, absl::StatusCode code,
                                     uint64_t count) {
  MutexLock lock(mutex_);
  while (finished_[{method, code}] < count) changed_.Wait(mutex_);
}

void LiveLong(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::hours(1));
}

void PassUntilStalled(FakeClock& clock, Gate& gate, const CountingObserver& observer) {
  while (observer.shed("stalled") == 0) {
    const StreamWatchdog::Waiting waiting = gate.watchdog().waiting();
    if (waiting.for_input + waiting.for_output > 0) {
      clock.Advance(std::chrono::seconds(11));
      gate.watchdog().Scan();
    }
    std::this_thread::yield();
  }
}

TestNode::TestNode(const GateOptions& gate, BlockStoreOptions store,
                   const IdentityOptions& identity, const TlsMaterial* tls) {
  store.directory = dir_ / "data";
  auto opened = BlockStore::Open(store, files_, clock_,
                                 [this](const PartEvent& event) { events_.Publish(event); });
  MNEMO_CHECK(opened.ok());
  store_ = *std::move(opened);
  auto book = IdentityBook::Load(identity, store_->state(), clock_);
  MNEMO_CHECK(book.ok());
  identity_ = *std::move(book);
  identity_admin_ = std::make_unique<IdentityAdmin>(
      *identity_, clock_, [this](const IdentityChange& change) { observer_.OnChange(change); });
  auto registry = SpaceRegistry::Load(store_->state(), clock_);
  MNEMO_CHECK(registry.ok());
  registry_ = *std::move(registry);
  spaces_ = std::make_unique<SpaceEngine>(*registry_, *store_, events_);
  blocks_ = std::make_unique<BlockEngine>(*spaces_, *store_, events_, clock_, engine_observer_);
  const ContextStores stores{.sync = store_->ordered_store(Level::kL3, Durability::kSync),
                             .interval = store_->ordered_store(Level::kL3, Durability::kInterval)};
  context_store_ = std::make_unique<ContextStore>(stores, clock_, ContextStoreOptions{});
  contexts_ = std::make_unique<StoredContextEngine>(*context_store_, *spaces_, clock_,
                                                    ContextEngineOptions{});
  admin_ = std::make_unique<AdminEngine>(*spaces_, *store_);
  gate_ = std::make_unique<Gate>(gate, *identity_, clock_, observer_);
  auto server = RpcServer::Start({.addresses = {"127.0.0.1:0"},
                                  .unix_socket = dir_ / "socket",
                                  .stream_socket = dir_ / "streams",
                                  .tls = tls},
                                 *gate_, rooms());
  MNEMO_CHECK(server.ok());
  server_ = *std::move(server);
}

RpcRooms TestNode::rooms() {
  return {.spaces = *spaces_,
          .blocks = *blocks_,
          .contexts = *contexts_,
          .admin = *admin_,
          .identity = *identity_admin_,
          .node = facts_,
          .tickets = tickets_};
}

TestNode::~TestNode() {
  server_.reset();
  gate_->Shutdown();
  EXPECT_EQ(gate_->bytes().used(), 0u) << "bytes of ended calls are still claimed";
  EXPECT_EQ(gate_->watchdog().streams(), 0u);
  EXPECT_OK(store_->Close());
}

std::shared_ptr<grpc::Channel> TestNode::NewChannel(bool small_windows) const {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (small_windows) {
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65536);
  }
  return grpc::CreateCustomChannel(address(), grpc::InsecureChannelCredentials(), arguments);
}

v1::Space RpcTest::KvSpace(const std::string& name) {
  v1::Space space;
  space.set_name(name);
  space.mutable_fingerprint()->set_weights_digest("sha256:0");
  space.set_tokens_per_block(16);
  v1::Group* group = space.add_groups();
  group->set_name("attention");
  group->set_kind(v1::GROUP_KIND_FULL);
  group->set_layers(4);
  group->set_kv_heads(2);
  group->set_k_dimension(64);
  group->set_v_dimension(64);
  group->set_dtype(v1::DTYPE_F16);
  v1::Group* window = space.add_groups();
  *window = *group;
  window->set_name("swa");
  window->set_kind(v1::GROUP_KIND_WINDOW);
  window->set_window_tokens(32);
  window->set_optional(true);
  return space;
}

v1::Space RpcTest::OpaqueSpace(const std::string& name) {
  v1::Space space;
  space.set_name(name);
  space.set_tokens_per_block(16);
  v1::Group* group = space.add_groups();
  group->set_name("bytes");
  group->set_kind(v1::GROUP_KIND_OPAQUE);
  group->set_layers(1);
  return space;
}

v1::Space RpcTest::Open(const v1::Space& space) {
  grpc::ClientContext context;
  v1::OpenSpaceRequest request;
  *request.mutable_space() = space;
  v1::OpenSpaceResponse response;
  const grpc::Status status = spaces_->Open(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.space();
}

v1::SpaceRef RpcTest::Ref(const std::string& name) {
  v1::SpaceRef ref;
  ref.set_name(name);
  return ref;
}

std::string RpcTest::Bytes(uint64_t seed, uint64_t size) {
  return TestPayload(TestPart(seed), 0, size);
}

v1::PutStart RpcTest::StartOf(const std::string& space, const std::vector<ClientPart>& parts) {
  v1::PutStart start;
  *start.mutable_space() = Ref(space);
  for (const ClientPart& part : parts) {
    v1::PartOffer* offer = start.add_parts();
    offer->set_key(part.key);
    *offer->mutable_part() = part.part;
    offer->set_size(part.bytes.size());
    offer->set_depth(part.depth);
    offer->set_parent(part.parent);
    offer->set_stretch(part.stretch);
  }
  return start;
}

PutAnswer RpcTest::Put(const v1::PutStart& start, const std::vector<ClientPart>& parts) {
  PutAnswer answer;
  grpc::ClientContext context;
  auto stream = blocks_->Put(&context);
  v1::PutRequest request;
  *request.mutable_start() = start;
  stream->Write(request);
  uint64_t granted = 0;
  uint64_t sent = 0;
  v1::PutResponse response;
  const auto read = [&] {
    if (!stream->Read(&response)) return false;
    if (response.has_grant()) {
      granted = response.grant().bytes_granted();
      answer.grants.push_back(response.grant());
    } else {
      answer.results[response.result().index()] = response.result();
    }
    return true;
  };
  bool open = read();
  for (uint32_t i = 0; open && i < parts.size() && !answer.grants.empty(); ++i) {
    if (answer.grants[0].verdicts(static_cast<int>(i)).verdict() != v1::VERDICT_WANT) continue;
    for (uint64_t at = 0; open && at < parts[i].bytes.size();) {
      while (open && sent >= granted) open = read();
      const uint64_t size = std::min({kMaxPiece, granted - sent, parts[i].bytes.size() - at});
      if (!open) break;
      v1::PutData* data = request.mutable_data();
      data->set_index(i);
      data->set_offset(at);
      data->set_data(parts[i].bytes.substr(at, size));
      open = stream->Write(request);
      at += size;
      sent += size;
    }
  }
  stream->WritesDone();
  while (read()) {
  }
  answer.status = stream->Finish();
  return answer;
}

void RpcTest::PutOpaque(const std::string& key, const std::string& bytes) {
  const PutAnswer answer = Put("opaque", {{.key = key, .bytes = bytes}});
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_EQ(answer.results.at(0).outcome(), v1::PUT_OUTCOME_STORED)
      << answer.results.at(0).error().message();
}

GetAnswer RpcTest::Get(const v1::GetRequest& request) {
  GetAnswer answer;
  grpc::ClientContext context;
  auto stream = blocks_->Get(&context, request);
  v1::GetResponse response;
  while (stream->Read(&response)) {
    if (response.has_header()) {
      answer.headers[response.header().index()] = response.header();
    } else {
      answer.bytes[response.data().index()] += response.data().data();
    }
    answer.messages.push_back(response);
  }
  answer.status = stream->Finish();
  return answer;
}

v1::GetRequest RpcTest::GetOf(const std::string& space,
                              const std::vector<std::string>& keys) const {
  v1::GetRequest request;
  *request.mutable_space() = Ref(space);
  for (const std::string& key : keys) request.add_keys(key);
  return request;
}

grpc::Status RpcTest::Match(const v1::MatchRequest& request, v1::MatchResponse* response) {
  grpc::ClientContext context;
  return blocks_->Match(&context, request, response);
}

}  // namespace mnemo
