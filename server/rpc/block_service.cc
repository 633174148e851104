#include "server/rpc/block_service.h"

#include "server/rpc/get_stream.h"
#include "server/rpc/put_stream.h"
#include "server/rpc/watch_stream.h"
#include "storage/base/status_macros.h"

namespace mnemo {

grpc::ServerUnaryReactor* BlockServiceHandler::Offer(grpc::CallbackServerContext* context,
                                                     const v1::OfferRequest* request,
                                                     v1::OfferResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.BlockService/Offer"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        MNEMO_ASSIGN_OR_RETURN(const std::vector<PartOffer> parts, FromProto(request->parts()));
        MNEMO_ASSIGN_OR_RETURN(const OfferAnswer answer,
                               blocks_.Offer(call, FromProto(request->space()), request->salt(),
                                             parts, request->reservation_ms()));
        for (const OfferVerdict& verdict : answer.verdicts) {
          ToProto(verdict, response->add_verdicts());
        }
        response->set_reservation(answer.reservation);
        return absl::OkStatus();
      });
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* BlockServiceHandler::Put(
    grpc::CallbackServerContext* context) {
  return PutStream::Start(gate_, blocks_, context);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* BlockServiceHandler::Get(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return GetStream::Start(gate_, blocks_, context, request);
}

grpc::ServerWriteReactor<v1::WatchResponse>* BlockServiceHandler::Watch(
    grpc::CallbackServerContext* context, const v1::WatchRequest* request) {
  return WatchStream::Start(gate_, blocks_, context, request);
}

grpc::ServerUnaryReactor* BlockServiceHandler::Match(grpc::CallbackServerContext* context,
                                                     const v1::MatchRequest* request,
                                                     v1::MatchResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.BlockService/Match"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(const MatchAnswer answer,
                                                   blocks_.Match(call, FromProto(*request)));
                            ToProto(answer, response);
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* BlockServiceHandler::Delete(grpc::CallbackServerContext* context,
                                                      const v1::DeleteRequest* request,
                                                      v1::DeleteResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.BlockService/Delete"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(const DeleteRequest asked, FromProto(*request));
                            MNEMO_ASSIGN_OR_RETURN(const uint64_t deleted,
                                                   blocks_.Delete(call, asked));
                            response->set_parts_deleted(deleted);
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* BlockServiceHandler::Touch(grpc::CallbackServerContext* context,
                                                     const v1::TouchRequest* request,
                                                     v1::TouchResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.BlockService/Touch"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(const uint32_t found,
                                                   blocks_.Touch(call, KeysRequestFrom(*request)));
                            response->set_found(found);
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* BlockServiceHandler::Prefetch(grpc::CallbackServerContext* context,
                                                        const v1::PrefetchRequest* request,
                                                        v1::PrefetchResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.BlockService/Prefetch"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        MNEMO_ASSIGN_OR_RETURN(const PrefetchRequest asked, FromProto(*request));
        MNEMO_ASSIGN_OR_RETURN(const PrefetchAnswer answer, blocks_.Prefetch(call, asked));
        response->set_prefetch(answer.prefetch);
        response->set_queued(answer.queued);
        response->set_in_ram(answer.in_ram);
        response->set_absent(answer.absent);
        response->set_dropped(answer.dropped);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* BlockServiceHandler::Pin(grpc::CallbackServerContext* context,
                                                   const v1::PinRequest* request,
                                                   v1::PinResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.BlockService/Pin"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(const PinAnswer answer,
                                                   blocks_.Pin(call, KeysRequestFrom(*request)));
                            response->set_parts_pinned(answer.parts);
                            for (const uint32_t index : answer.missing) {
                              response->add_missing(index);
                            }
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* BlockServiceHandler::Unpin(grpc::CallbackServerContext* context,
                                                     const v1::UnpinRequest* request,
                                                     v1::UnpinResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.BlockService/Unpin"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(const uint64_t unpinned,
                                                   blocks_.Unpin(call, KeysRequestFrom(*request)));
                            response->set_parts_unpinned(unpinned);
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* BlockServiceHandler::Renew(grpc::CallbackServerContext* context,
                                                     const v1::RenewRequest* request,
                                                     v1::RenewResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.BlockService/Renew"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(
                                const uint32_t granted,
                                blocks_.Renew(call, request->lease(), request->lease_ms()));
                            response->set_lease_ms(granted);
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* BlockServiceHandler::Describe(grpc::CallbackServerContext* context,
                                                        const v1::DescribeRequest* request,
                                                        v1::DescribeResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.BlockService/Describe"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(
                                const auto states,
                                blocks_.Describe(call, KeysRequestFrom(*request)));
                            for (const PartState& state : states)
                              ToProto(state, response->add_parts());
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* BlockServiceHandler::List(grpc::CallbackServerContext* context,
                                                    const v1::ListBlocksRequest* request,
                                                    v1::ListBlocksResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.BlockService/List"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            ListRequest asked{.space = FromProto(request->space()),
                                              .key_prefix = request->key_prefix(),
                                              .page_size = request->page_size(),
                                              .page_token = request->page_token()};
                            if (request->has_salt()) asked.salt = request->salt();
                            MNEMO_ASSIGN_OR_RETURN(
                                const auto states,
                                blocks_.List(call, asked, *response->mutable_next_page_token()));
                            for (const PartState& state : states)
                              ToProto(state, response->add_parts());
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* BlockServiceHandler::Flush(grpc::CallbackServerContext* context,
                                                     const v1::FlushRequest* request,
                                                     v1::FlushResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.BlockService/Flush"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            std::optional<SpaceRef> space;
                            if (request->has_space()) space = FromProto(request->space());
                            MNEMO_ASSIGN_OR_RETURN(const uint64_t written,
                                                   blocks_.Flush(call, space));
                            response->set_parts_written(written);
                            return absl::OkStatus();
                          });
}

}  // namespace mnemo
