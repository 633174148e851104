#include "server/rpc/context_service.h"

#include <fmt/format.h>

#include <vector>

#include "server/rpc/append_stream.h"
#include "server/rpc/context_read_stream.h"
#include "server/rpc/convert_context.h"
#include "storage/base/status_macros.h"

namespace mnemo {

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* ContextServiceHandler::Append(
    grpc::CallbackServerContext* context) {
  return AppendStream::Start(gate_, contexts_, context);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ContextServiceHandler::Read(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return ContextReadStream::Start(gate_, contexts_, context, request);
}

grpc::ServerUnaryReactor* ContextServiceHandler::Create(grpc::CallbackServerContext* context,
                                                        const v1::CreateContextRequest* request,
                                                        v1::CreateContextResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.ContextService/Create"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        MNEMO_ASSIGN_OR_RETURN(const ContextSpec spec, FromProto(request->context()));
        MNEMO_ASSIGN_OR_RETURN(const auto created, contexts_.Create(call, spec));
        ToProto(created.info, response->mutable_context());
        response->set_created(created.created);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ContextServiceHandler::Summarize(grpc::CallbackServerContext* context,
                                                           const v1::SummarizeRequest* request,
                                                           v1::SummarizeResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.ContextService/Summarize"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(
                                const RangeSummary summary,
                                contexts_.Summarize(call, FromProto(request->context()),
                                                    request->first_position(), request->count()));
                            ToProto(summary, response->mutable_summary());
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* ContextServiceHandler::Search(grpc::CallbackServerContext* context,
                                                        const v1::SearchRequest* request,
                                                        v1::SearchResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.ContextService/Search"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        std::vector<float> queries;
        MNEMO_ASSIGN_OR_RETURN(const ContextSearchRequest asked, FromProto(*request, queries));
        const MonoTime started = gate_.clock().Mono();
        MNEMO_ASSIGN_OR_RETURN(const ContextSearchAnswer answer, contexts_.Search(call, asked));
        ToProto(answer, response);
        const Nanos took = gate_.clock().Mono() - started;
        response->mutable_work()->set_engine_us(
            std::chrono::duration_cast<std::chrono::microseconds>(took).count());
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ContextServiceHandler::Link(grpc::CallbackServerContext* context,
                                                      const v1::LinkRequest* request,
                                                      v1::LinkResponse*) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.ContextService/Link"), context,
                          [this, request](const CallContext& call) {
                            return contexts_.Link(call, FromProto(request->context()),
                                                  FromProto(request->link()));
                          });
}

grpc::ServerUnaryReactor* ContextServiceHandler::ListLinks(grpc::CallbackServerContext* context,
                                                           const v1::ListLinksRequest* request,
                                                           v1::ListLinksResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.ContextService/ListLinks"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            uint64_t next = 0;
                            MNEMO_ASSIGN_OR_RETURN(
                                const auto links,
                                contexts_.Links(call, FromProto(request->context()),
                                                request->first_position(), request->count(), next));
                            response->set_next_position(next);
                            for (const BlockLink& link : links) {
                              ToProto(link, response->add_links());
                            }
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* ContextServiceHandler::Seal(grpc::CallbackServerContext* context,
                                                      const v1::SealRequest* request,
                                                      v1::SealResponse* response) {
  return UnaryCall::Start(gate_, RuleOf("mnemo.v1.ContextService/Seal"), context,
                          [this, request, response](const CallContext& call) -> absl::Status {
                            MNEMO_ASSIGN_OR_RETURN(
                                const uint64_t tokens,
                                contexts_.Seal(call, FromProto(request->context())));
                            response->set_tokens(tokens);
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* ContextServiceHandler::Delete(grpc::CallbackServerContext* context,
                                                        const v1::DeleteContextRequest* request,
                                                        v1::DeleteContextResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.ContextService/Delete"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        MNEMO_ASSIGN_OR_RETURN(
            const uint64_t deleted,
            contexts_.Delete(call, FromProto(request->context()), request->wait()));
        response->set_tokens_deleted(deleted);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ContextServiceHandler::Describe(grpc::CallbackServerContext* context,
                                                          const v1::DescribeContextRequest* request,
                                                          v1::DescribeContextResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.ContextService/Describe"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        MNEMO_ASSIGN_OR_RETURN(
            const ContextDescription description,
            contexts_.Describe(call, FromProto(request->context()), request->max_runs()));
        ToProto(description, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ContextServiceHandler::List(grpc::CallbackServerContext* context,
                                                      const v1::ListContextsRequest* request,
                                                      v1::ListContextsResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.ContextService/List"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        MNEMO_ASSIGN_OR_RETURN(
            const auto page,
            contexts_.List(call, FromProto(request->labels()), request->page_size(),
                           request->page_token(), *response->mutable_next_page_token()));
        for (const ContextInfo& info : page) ToProto(info, response->add_contexts());
        return absl::OkStatus();
      });
}

}  // namespace mnemo
