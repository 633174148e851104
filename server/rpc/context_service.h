// Handlers of ContextService. Append and Read are raw: a batch is claimed from
// the byte budget before it is parsed, and embeddings that are read go to the
// socket from where they lie.
#pragma once

#include "mnemo/v1/context.grpc.pb.h"
#include "server/engine/context_engine.h"
#include "server/rpc/unary.h"

namespace mnemo {

// The generated service by callbacks, with Append and Read raw. Spelt out, since
// the generated CallbackService has typed ones that raw ones cannot override.
template <typename Base>
using WithUnaryContextMethods =
    v1::ContextService::WithCallbackMethod_Create<v1::ContextService::WithCallbackMethod_Summarize<
        v1::ContextService::WithCallbackMethod_Search<v1::ContextService::WithCallbackMethod_Link<
            v1::ContextService::WithCallbackMethod_ListLinks<
                v1::ContextService::WithCallbackMethod_Seal<
                    v1::ContextService::WithCallbackMethod_Delete<
                        v1::ContextService::WithCallbackMethod_Describe<
                            v1::ContextService::WithCallbackMethod_List<Base>>>>>>>>>;
using ContextServiceBase = WithUnaryContextMethods<v1::ContextService::WithRawCallbackMethod_Append<
    v1::ContextService::WithRawCallbackMethod_Read<v1::ContextService::Service>>>;

class ContextServiceHandler final : public ContextServiceBase {
 public:
  ContextServiceHandler(Gate& gate, ContextEngine& contexts) : gate_(gate), contexts_(contexts) {}

  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const v1::CreateContextRequest* request,
                                   v1::CreateContextResponse* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Append(
      grpc::CallbackServerContext* context) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Read(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Summarize(grpc::CallbackServerContext* context,
                                      const v1::SummarizeRequest* request,
                                      v1::SummarizeResponse* response) override;
  grpc::ServerUnaryReactor* Search(grpc::CallbackServerContext* context,
                                   const v1::SearchRequest* request,
                                   v1::SearchResponse* response) override;
  grpc::ServerUnaryReactor* Link(grpc::CallbackServerContext* context,
                                 const v1::LinkRequest* request,
                                 v1::LinkResponse* response) override;
  grpc::ServerUnaryReactor* ListLinks(grpc::CallbackServerContext* context,
                                      const v1::ListLinksRequest* request,
                                      v1::ListLinksResponse* response) override;
  grpc::ServerUnaryReactor* Seal(grpc::CallbackServerContext* context,
                                 const v1::SealRequest* request,
                                 v1::SealResponse* response) override;
  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context,
                                   const v1::DeleteContextRequest* request,
                                   v1::DeleteContextResponse* response) override;
  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const v1::DescribeContextRequest* request,
                                     v1::DescribeContextResponse* response) override;
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const v1::ListContextsRequest* request,
                                 v1::ListContextsResponse* response) override;

 private:
  Gate& gate_;
  ContextEngine& contexts_;
};

}  // namespace mnemo
