// Handlers of BlockService. Put and Get carry payload and are raw: their
// messages are read and written as bytes, so that payload is copied once, from
// the socket's slices into the store's extents, and never on the way out.
#pragma once

#include "mnemo/v1/block.grpc.pb.h"
#include "server/engine/block_engine.h"
#include "server/rpc/unary.h"

namespace mnemo {

// The generated service by callbacks, with Put and Get raw. Spelt out, since the
// generated CallbackService has a typed Put that a raw one cannot override.
template <typename Base>
using WithUnaryMethods = v1::BlockService::WithCallbackMethod_Offer<
    v1::BlockService::WithCallbackMethod_Match<v1::BlockService::WithCallbackMethod_Delete<
        v1::BlockService::WithCallbackMethod_Touch<v1::BlockService::WithCallbackMethod_Prefetch<
            v1::BlockService::WithCallbackMethod_Pin<v1::BlockService::WithCallbackMethod_Unpin<
                v1::BlockService::WithCallbackMethod_Renew<
                    v1::BlockService::WithCallbackMethod_Describe<
                        v1::BlockService::WithCallbackMethod_List<
                            v1::BlockService::WithCallbackMethod_Flush<Base>>>>>>>>>>>;
using BlockServiceBase = WithUnaryMethods<
    v1::BlockService::WithCallbackMethod_Watch<v1::BlockService::WithRawCallbackMethod_Put<
        v1::BlockService::WithRawCallbackMethod_Get<v1::BlockService::Service>>>>;

class BlockServiceHandler final : public BlockServiceBase {
 public:
  BlockServiceHandler(Gate& gate, BlockEngine& blocks) : gate_(gate), blocks_(blocks) {}

  grpc::ServerUnaryReactor* Offer(grpc::CallbackServerContext* context,
                                  const v1::OfferRequest* request,
                                  v1::OfferResponse* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Put(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* Match(grpc::CallbackServerContext* context,
                                  const v1::MatchRequest* request,
                                  v1::MatchResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Get(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context,
                                   const v1::DeleteRequest* request,
                                   v1::DeleteResponse* response) override;
  grpc::ServerUnaryReactor* Touch(grpc::CallbackServerContext* context,
                                  const v1::TouchRequest* request,
                                  v1::TouchResponse* response) override;
  grpc::ServerUnaryReactor* Prefetch(grpc::CallbackServerContext* context,
                                     const v1::PrefetchRequest* request,
                                     v1::PrefetchResponse* response) override;
  grpc::ServerUnaryReactor* Pin(grpc::CallbackServerContext* context, const v1::PinRequest* request,
                                v1::PinResponse* response) override;
  grpc::ServerUnaryReactor* Unpin(grpc::CallbackServerContext* context,
                                  const v1::UnpinRequest* request,
                                  v1::UnpinResponse* response) override;
  grpc::ServerUnaryReactor* Renew(grpc::CallbackServerContext* context,
                                  const v1::RenewRequest* request,
                                  v1::RenewResponse* response) override;
  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const v1::DescribeRequest* request,
                                     v1::DescribeResponse* response) override;
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const v1::ListBlocksRequest* request,
                                 v1::ListBlocksResponse* response) override;
  grpc::ServerUnaryReactor* Flush(grpc::CallbackServerContext* context,
                                  const v1::FlushRequest* request,
                                  v1::FlushResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchResponse>* Watch(grpc::CallbackServerContext* context,
                                                     const v1::WatchRequest* request) override;

 private:
  Gate& gate_;
  BlockEngine& blocks_;
};

}  // namespace mnemo
