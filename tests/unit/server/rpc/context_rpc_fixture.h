// ContextService over real sockets and a fake engine, and a clock that only
// tests turn.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mnemo/v1/context.grpc.pb.h"
#include "server/rpc/context_service.h"
#include "tests/support/fake_authenticator.h"
#include "tests/unit/server/rpc/fake_context_engine.h"
#include "tests/unit/server/rpc/rpc_fixture.h"

namespace mnemo {

class ContextRpcTest : public ::testing::Test {
 protected:
  static constexpr uint32_t kDimension = 4;
  explicit ContextRpcTest(const GateOptions& options = {})
      : gate_(options, authenticator_, clock_, observer_) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.SetMaxReceiveMessageSize(9 << 20);
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&handler_);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
    contexts_ = v1::ContextService::NewStub(NewChannel());
  }
  ~ContextRpcTest() override {
    gate_.StopAdmitting();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    gate_.Shutdown();
    EXPECT_EQ(gate_.bytes().used(), 0u) << "bytes of ended calls are still claimed";
    EXPECT_EQ(gate_.watchdog().streams(), 0u);
  }

  std::shared_ptr<grpc::Channel> NewChannel(bool small_windows = false) const {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    if (small_windows) {
      arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
      arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65536);
    }
    return grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
  }

  v1::Context Create(const std::string& name, uint32_t dimension = kDimension) {
    grpc::ClientContext context;
    v1::CreateContextRequest request;
    request.mutable_context()->set_name(name);
    request.mutable_context()->set_dimension(dimension);
    v1::CreateContextResponse response;
    EXPECT_THAT(contexts_->Create(&context, request, &response), GrpcOk());
    return response.context();
  }

  static v1::AppendRequest StartOf(const std::string& name, uint64_t writer = 7) {
    v1::AppendRequest request;
    request.mutable_start()->mutable_context()->set_name(name);
    request.mutable_start()->set_writer_id(writer);
    return request;
  }

  // Token i has id i, and (i, 1, 1, ...) for an embedding.
  static v1::AppendRequest BatchOf(uint64_t first, uint32_t count,
                                   uint32_t dimension = kDimension) {
    v1::AppendRequest request;
    v1::TokenBatch* batch = request.mutable_tokens();
    batch->set_first_position(first);
    batch->set_count(count);
    for (uint64_t i = first; i < first + count; ++i) {
      std::vector<float> row(dimension, 1);
      row[0] = static_cast<float>(i);
      batch->mutable_embeddings()->append(reinterpret_cast<const char*>(row.data()),
                                          row.size() * sizeof(float));
      AppendLittle<uint32_t>(*batch->mutable_ids(), static_cast<uint32_t>(i));
    }
    return request;
  }

  using Stream = grpc::ClientReaderWriter<v1::AppendRequest, v1::AppendResponse>;
  // The next answer of a stream; fails the test if there is none.
  static v1::AppendResponse Answer(Stream& stream) {
    v1::AppendResponse response;
    EXPECT_TRUE(stream.Read(&response));
    return response;
  }
  // Appends tokens 0 to count - 1.
  void Fill(const std::string& name, uint32_t count) {
    Create(name);
    grpc::ClientContext context;
    auto stream = contexts_->Append(&context);
    ASSERT_TRUE(stream->Write(StartOf(name)));
    ASSERT_TRUE(stream->Write(BatchOf(0, count)));
    stream->WritesDone();
    ASSERT_TRUE(Answer(*stream).has_ready());
    ASSERT_EQ(Answer(*stream).ack().next_position(), count);
    ASSERT_THAT(stream->Finish(), GrpcOk());
  }
  static v1::ContextRef Ref(const std::string& name) {
    v1::ContextRef ref;
    ref.set_name(name);
    return ref;
  }

  FakeClock clock_;
  CountingObserver observer_;
  FakeAuthenticator authenticator_;
  Gate gate_;
  FakeContextEngine engine_;
  ContextServiceHandler handler_{gate_, engine_};
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::unique_ptr<v1::ContextService::Stub> contexts_;
};

}  // namespace mnemo
