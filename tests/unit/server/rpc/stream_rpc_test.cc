// StreamService: the way from an authenticated call to a stream of its caller's.
#include <gmock/gmock.h>

#include "server/transfer/stream_connection.h"
#include "tests/unit/server/rpc/rpc_fixture.h"

namespace mnemo {
namespace {

using ::testing::HasSubstr;

class StreamRpcTest : public RpcTest {
 protected:
  StreamRpcTest() : RpcTest({}, SmallStore(""), {.required = true}) {}
  std::unique_ptr<v1::StreamService::Stub> streams_ = v1::StreamService::NewStub(channel_);
};

TEST_F(StreamRpcTest, TheTicketLeadsToTheCallersIdentityOnce) {
  const auto tenant = node_.identity().CreateTenant("acme");
  ASSERT_OK(tenant);
  const auto token = node_.identity().CreateToken(tenant->id, "app", {Role::kReader});
  ASSERT_OK(token);
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer " + token->text);
  v1::OpenStreamResponse way;
  ASSERT_THAT(streams_->Open(&context, {}, &way), GrpcOk());
  EXPECT_THAT(way.unix_socket(), HasSubstr("/streams"));
  EXPECT_EQ(way.ticket_ms(), 30'000u);
  const auto identity = node_.tickets().Redeem(way.ticket(), kFastPlane);
  ASSERT_OK(identity);
  EXPECT_EQ(identity->tenant, tenant->id);
  EXPECT_EQ(identity->principal, "app");
  EXPECT_THAT(node_.tickets().Redeem(way.ticket(), kFastPlane).status(),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("")));
  grpc::ClientContext nobody;
  EXPECT_THAT(streams_->Open(&nobody, {}, &way),
              GrpcIs(grpc::StatusCode::UNAUTHENTICATED, HasSubstr("")));
}

TEST_F(RpcTest, ANodeWithoutStreamsSaysSo) {
  const auto server = RpcServer::Start({.addresses = {"127.0.0.1:0"}}, node_.gate(), node_.rooms());
  ASSERT_OK(server);
  const auto streams = v1::StreamService::NewStub(
      grpc::CreateChannel((*server)->bound_addresses()[0], grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::OpenStreamResponse way;
  EXPECT_THAT(streams->Open(&context, {}, &way),
              GrpcIs(grpc::StatusCode::FAILED_PRECONDITION, HasSubstr("no streams")));
}

}  // namespace
}  // namespace mnemo
