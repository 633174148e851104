// A daemon on a port of its own whose answers a test writes.
#pragma once

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <functional>
#include <memory>
#include <string>

#include "mnemo/client.h"
#include "mnemo/v1/admin.grpc.pb.h"
#include "mnemo/v1/auth.grpc.pb.h"
#include "mnemo/v1/block.grpc.pb.h"
#include "mnemo/v1/context.grpc.pb.h"
#include "mnemo/v1/space.grpc.pb.h"
#include "mnemo/v1/stream.grpc.pb.h"
#include "storage/base/status_macros.h"

namespace mnemo::client {

inline grpc::Status NotInThisTest() {
  return {grpc::StatusCode::UNIMPLEMENTED, "not in this test"};
}

// The metadata "authorization" of a call; empty: none.
inline std::string AuthorizationOf(const grpc::ServerContext& context) {
  const auto found = context.client_metadata().find("authorization");
  if (found == context.client_metadata().end()) return "";
  return std::string(found->second.data(), found->second.size());
}

// Handlers run on gRPC's threads, several at once. One that is not set is
// answered UNIMPLEMENTED.
struct FakeBlocks final : v1::BlockService::Service {
  using PutStream = grpc::ServerReaderWriter<v1::PutResponse, v1::PutRequest>;
  using GetWriter = grpc::ServerWriter<v1::GetResponse>;
  using WatchWriter = grpc::ServerWriter<v1::WatchResponse>;

  std::function<grpc::Status(grpc::ServerContext&, const v1::OfferRequest&, v1::OfferResponse&)>
      offer;
  std::function<grpc::Status(grpc::ServerContext&, const v1::MatchRequest&, v1::MatchResponse&)>
      match;
  std::function<grpc::Status(grpc::ServerContext&, PutStream&)> put;
  std::function<grpc::Status(grpc::ServerContext&, const v1::GetRequest&, GetWriter&)> get;
  std::function<grpc::Status(grpc::ServerContext&, const v1::WatchRequest&, WatchWriter&)> watch;

  grpc::Status Offer(grpc::ServerContext* context, const v1::OfferRequest* request,
                     v1::OfferResponse* response) override {
    return offer ? offer(*context, *request, *response) : NotInThisTest();
  }
  grpc::Status Match(grpc::ServerContext* context, const v1::MatchRequest* request,
                     v1::MatchResponse* response) override {
    return match ? match(*context, *request, *response) : NotInThisTest();
  }
  grpc::Status Put(grpc::ServerContext* context, PutStream* stream) override {
    return put ? put(*context, *stream) : NotInThisTest();
  }
  grpc::Status Get(grpc::ServerContext* context, const v1::GetRequest* request,
                   GetWriter* writer) override {
    return get ? get(*context, *request, *writer) : NotInThisTest();
  }
  grpc::Status Watch(grpc::ServerContext* context, const v1::WatchRequest* request,
                     WatchWriter* writer) override {
    return watch ? watch(*context, *request, *writer) : NotInThisTest();
  }
};

struct FakeSpaces final : v1::SpaceService::Service {
  std::function<grpc::Status(const v1::OpenSpaceRequest&, v1::OpenSpaceResponse&)> open;
  std::function<grpc::Status(const v1::GetSpaceRequest&, v1::GetSpaceResponse&)> get;
  std::function<grpc::Status(const v1::ListSpacesRequest&, v1::ListSpacesResponse&)> list;
  std::function<grpc::Status(const v1::DeleteSpaceRequest&, v1::DeleteSpaceResponse&)> remove;

  grpc::Status Open(grpc::ServerContext*, const v1::OpenSpaceRequest* request,
                    v1::OpenSpaceResponse* response) override {
    return open ? open(*request, *response) : NotInThisTest();
  }
  grpc::Status Get(grpc::ServerContext*, const v1::GetSpaceRequest* request,
                   v1::GetSpaceResponse* response) override {
    return get ? get(*request, *response) : NotInThisTest();
  }
  grpc::Status List(grpc::ServerContext*, const v1::ListSpacesRequest* request,
                    v1::ListSpacesResponse* response) override {
    return list ? list(*request, *response) : NotInThisTest();
  }
  grpc::Status Delete(grpc::ServerContext*, const v1::DeleteSpaceRequest* request,
                      v1::DeleteSpaceResponse* response) override {
    return remove ? remove(*request, *response) : NotInThisTest();
  }
};

struct FakeAdmin final : v1::AdminService::Service {
  std::function<grpc::Status(v1::GetNodeStatusResponse&)> status;
  std::function<grpc::Status(v1::ListLevelsResponse&)> levels;
  std::function<grpc::Status(const v1::ExplainPlacementRequest&, v1::ExplainPlacementResponse&)>
      explain;

  grpc::Status GetNodeStatus(grpc::ServerContext*, const v1::GetNodeStatusRequest*,
                             v1::GetNodeStatusResponse* response) override {
    return status ? status(*response) : NotInThisTest();
  }
  grpc::Status ListLevels(grpc::ServerContext*, const v1::ListLevelsRequest*,
                          v1::ListLevelsResponse* response) override {
    return levels ? levels(*response) : NotInThisTest();
  }
  grpc::Status ExplainPlacement(grpc::ServerContext*, const v1::ExplainPlacementRequest* request,
                                v1::ExplainPlacementResponse* response) override {
    return explain ? explain(*request, *response) : NotInThisTest();
  }
};

struct FakeAuth final : v1::AuthService::Service {
  std::function<grpc::Status(const v1::CreateTenantRequest&, v1::CreateTenantResponse&)>
      create_tenant;
  std::function<grpc::Status(grpc::ServerContext&, v1::ListTenantsResponse&)> tenants;
  std::function<grpc::Status(const v1::CreateTokenRequest&, v1::CreateTokenResponse&)> create;
  std::function<grpc::Status(const v1::RotateTokenRequest&, v1::RotateTokenResponse&)> rotate;
  std::function<grpc::Status(const v1::RevokeTokenRequest&)> revoke;
  std::function<grpc::Status(const v1::ListPrincipalsRequest&, v1::ListPrincipalsResponse&)> list;

  grpc::Status CreateTenant(grpc::ServerContext*, const v1::CreateTenantRequest* request,
                            v1::CreateTenantResponse* response) override {
    return create_tenant ? create_tenant(*request, *response) : NotInThisTest();
  }
  grpc::Status ListTenants(grpc::ServerContext* context, const v1::ListTenantsRequest*,
                           v1::ListTenantsResponse* response) override {
    return tenants ? tenants(*context, *response) : NotInThisTest();
  }
  grpc::Status CreateToken(grpc::ServerContext*, const v1::CreateTokenRequest* request,
                           v1::CreateTokenResponse* response) override {
    return create ? create(*request, *response) : NotInThisTest();
  }
  grpc::Status RotateToken(grpc::ServerContext*, const v1::RotateTokenRequest* request,
                           v1::RotateTokenResponse* response) override {
    return rotate ? rotate(*request, *response) : NotInThisTest();
  }
  grpc::Status RevokeToken(grpc::ServerContext*, const v1::RevokeTokenRequest* request,
                           v1::RevokeTokenResponse*) override {
    return revoke ? revoke(*request) : NotInThisTest();
  }
  grpc::Status ListPrincipals(grpc::ServerContext*, const v1::ListPrincipalsRequest* request,
                              v1::ListPrincipalsResponse* response) override {
    return list ? list(*request, *response) : NotInThisTest();
  }
};

// As FakeBlocks, for the methods that tests need.
struct FakeContexts final : v1::ContextService::Service {
  using AppendStream = grpc::ServerReaderWriter<v1::AppendResponse, v1::AppendRequest>;
  using ReadWriter = grpc::ServerWriter<v1::ReadContextResponse>;

  std::function<grpc::Status(grpc::ServerContext&, AppendStream&)> append;
  std::function<grpc::Status(const v1::ReadContextRequest&, ReadWriter&)> read;
  std::function<grpc::Status(const v1::SearchRequest&, v1::SearchResponse&)> search;
  std::function<grpc::Status(const v1::SummarizeRequest&, v1::SummarizeResponse&)> summarize;
  std::function<grpc::Status(const v1::DescribeContextRequest&, v1::DescribeContextResponse&)>
      describe;
  std::function<grpc::Status(const v1::ListContextsRequest&, v1::ListContextsResponse&)> list;
  std::function<grpc::Status(const v1::DeleteContextRequest&, v1::DeleteContextResponse&)> remove;

  grpc::Status Append(grpc::ServerContext* context, AppendStream* stream) override {
    return append ? append(*context, *stream) : Missing();
  }
  grpc::Status Read(grpc::ServerContext*, const v1::ReadContextRequest* request,
                    ReadWriter* writer) override {
    return read ? read(*request, *writer) : Missing();
  }
  grpc::Status Search(grpc::ServerContext*, const v1::SearchRequest* request,
                      v1::SearchResponse* response) override {
    return search ? search(*request, *response) : Missing();
  }
  grpc::Status Describe(grpc::ServerContext*, const v1::DescribeContextRequest* request,
                        v1::DescribeContextResponse* response) override {
    return describe ? describe(*request, *response) : Missing();
  }
  grpc::Status Summarize(grpc::ServerContext*, const v1::SummarizeRequest* request,
                         v1::SummarizeResponse* response) override {
    return summarize ? summarize(*request, *response) : Missing();
  }
  grpc::Status List(grpc::ServerContext*, const v1::ListContextsRequest* request,
                    v1::ListContextsResponse* response) override {
    return list ? list(*request, *response) : Missing();
  }
  grpc::Status Delete(grpc::ServerContext*, const v1::DeleteContextRequest* request,
                      v1::DeleteContextResponse* response) override {
    return remove ? remove(*request, *response) : Missing();
  }

 private:
  static grpc::Status Missing() { return {grpc::StatusCode::UNIMPLEMENTED, "not in this test"}; }
};

struct FakeStreams final : v1::StreamService::Service {
  std::function<grpc::Status(v1::OpenStreamResponse&)> open;

  grpc::Status Open(grpc::ServerContext*, const v1::OpenStreamRequest*,
                    v1::OpenStreamResponse* response) override {
    return open ? open(*response) : NotInThisTest();
  }
};

class FakeDaemon {
 public:
  FakeDaemon() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&blocks);
    builder.RegisterService(&contexts);
    builder.RegisterService(&spaces);
    builder.RegisterService(&admin);
    builder.RegisterService(&auth);
    builder.RegisterService(&streams);
    builder.SetMaxReceiveMessageSize(8 << 20);
    server_ = builder.BuildAndStart();
    MNEMO_CHECK(server_ != nullptr && port != 0);
    target_ = "127.0.0.1:" + std::to_string(port);
  }
  ~FakeDaemon() { Stop(); }

  // Breaks off what is running.
  void Stop() { server_->Shutdown(std::chrono::system_clock::now()); }
  const std::string& target() const { return target_; }

  FakeBlocks blocks;
  FakeContexts contexts;
  FakeSpaces spaces;
  FakeAdmin admin;
  FakeAuth auth;
  FakeStreams streams;

 private:
  std::unique_ptr<grpc::Server> server_;
  std::string target_;
};

inline std::unique_ptr<Client> ConnectTo(const FakeDaemon& daemon, RetryOptions retry = {}) {
  retry.initial_backoff = Millis(1);
  absl::StatusOr<std::unique_ptr<Client>> client =
      Client::Connect({.target = daemon.target(), .retry = retry});
  MNEMO_CHECK(client.ok());
  return *std::move(client);
}

}  // namespace mnemo::client
