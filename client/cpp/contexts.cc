#include "mnemo/contexts.h"

#include <utility>

#include "client/cpp/blocking_stream.h"
#include "client/cpp/context_writer.h"
#include "client/cpp/convert_context.h"
#include "client/cpp/unary.h"
#include "storage/base/status_macros.h"

namespace mnemo::client {
namespace {

using Stub = v1::ContextService::StubInterface::async_interface;

template <typename Response, typename Request>
absl::StatusOr<Response> Wait(Core& core, const CallOptions& options,
                              UnaryMethod<v1::ContextService, Request, Response> method,
                              Request request) {
  return CallAndWait<v1::ContextService, Request, Response>(core, ControlCall(core, options),
                                                            method, std::move(request));
}

// Shows each message of a read.
absl::Status ReadAll(Core& core, const v1::ReadContextRequest& request, const CallOptions& options,
                     const std::function<absl::Status(const v1::ReadContextResponse&)>& show) {
  BlockingStream life(core, TransferCall(core, options).deadline, options.cancel);
  const auto stream = core.NextConnection().contexts->Read(&life.NewContext(), request);
  v1::ReadContextResponse response;
  absl::Status shown;
  while (stream->Read(&response)) {
    if (!shown.ok()) continue;  // a call ends for its client when all is read
    shown = show(response);
    if (!shown.ok()) life.Cancel();
  }
  const absl::Status status = FromGrpc(stream->Finish());
  return shown.ok() ? status : shown;
}

}  // namespace

absl::StatusOr<CreatedContext> Contexts::Create(const Context& context,
                                                const CallOptions& options) {
  v1::CreateContextRequest request;
  *request.mutable_context() = ToMessage(context);
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (Wait<v1::CreateContextResponse, v1::CreateContextRequest>(
                             core_, options, &Stub::Create, request)));
  return CreatedContext{.context = FromMessage(response.context()), .created = response.created()};
}

absl::StatusOr<std::unique_ptr<ContextWriter>> Contexts::Write(const ContextRef& context,
                                                               const WriterOptions& options) {
  MNEMO_ASSIGN_OR_RETURN(const ContextDescription description,
                         Describe(context, 1, {.cancel = options.cancel}));
  auto impl = std::make_unique<ContextWriter::Impl>(core_, description.context.id,
                                                    description.context.dimension, options);
  MNEMO_RETURN_IF_ERROR(impl->Open());
  return std::make_unique<ContextWriter>(std::move(impl));
}

absl::Status Contexts::Read(const ReadRequest& request,
                            const std::function<absl::Status(const TokenRun&)>& show,
                            const CallOptions& options) {
  return ReadAll(core_, ToMessage(request), options, [&](const auto& response) {
    return response.has_tokens() ? show(FromMessage(response.tokens())) : absl::OkStatus();
  });
}

absl::StatusOr<std::vector<RangeSummary>> Contexts::Summaries(const ContextRef& context,
                                                              uint32_t resolution, uint64_t first,
                                                              uint64_t count, bool vectors,
                                                              const CallOptions& options) {
  v1::ReadContextRequest request;
  *request.mutable_context() = ToMessage(context);
  request.set_first_position(first);
  request.set_count(count);
  request.set_resolution(resolution);
  request.set_without_embeddings(!vectors);
  std::vector<RangeSummary> summaries;
  MNEMO_RETURN_IF_ERROR(ReadAll(core_, request, options, [&](const auto& response) {
    for (const v1::RangeSummary& summary : response.summaries().summaries()) {
      summaries.push_back(FromMessage(summary));
    }
    return absl::OkStatus();
  }));
  return summaries;
}

absl::StatusOr<RangeSummary> Contexts::Summarize(const ContextRef& context, uint64_t first,
                                                 uint64_t count, const CallOptions& options) {
  v1::SummarizeRequest request;
  *request.mutable_context() = ToMessage(context);
  request.set_first_position(first);
  request.set_count(count);
  MNEMO_ASSIGN_OR_RETURN(const auto response, (Wait<v1::SummarizeResponse, v1::SummarizeRequest>(
                                                  core_, options, &Stub::Summarize, request)));
  return FromMessage(response.summary());
}

absl::StatusOr<SearchResult> Contexts::Search(const SearchRequest& request,
                                              const CallOptions& options) {
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (Wait<v1::SearchResponse, v1::SearchRequest>(core_, options, &Stub::Search,
                                                                      ToMessage(request))));
  return FromMessage(response);
}

absl::Status Contexts::Link(const ContextRef& context, const BlockLink& link,
                            const CallOptions& options) {
  v1::LinkRequest request;
  *request.mutable_context() = ToMessage(context);
  *request.mutable_link() = ToMessage(link);
  return Wait<v1::LinkResponse, v1::LinkRequest>(core_, options, &Stub::Link, request).status();
}

absl::StatusOr<std::vector<BlockLink>> Contexts::Links(const ContextRef& context, uint64_t first,
                                                       uint64_t count, const CallOptions& options) {
  std::vector<BlockLink> links;
  v1::ListLinksRequest request;
  *request.mutable_context() = ToMessage(context);
  request.set_first_position(first);
  request.set_count(count);
  for (;;) {
    MNEMO_ASSIGN_OR_RETURN(const auto response, (Wait<v1::ListLinksResponse, v1::ListLinksRequest>(
                                                    core_, options, &Stub::ListLinks, request)));
    for (const v1::BlockLink& link : response.links()) links.push_back(FromMessage(link));
    const uint64_t next = response.next_position();
    if (next <= request.first_position()) return links;
    if (count != 0) {
      if (next >= first + count) return links;
      request.set_count(first + count - next);
    }
    request.set_first_position(next);
  }
}

absl::StatusOr<uint64_t> Contexts::Seal(const ContextRef& context, const CallOptions& options) {
  v1::SealRequest request;
  *request.mutable_context() = ToMessage(context);
  MNEMO_ASSIGN_OR_RETURN(const auto response, (Wait<v1::SealResponse, v1::SealRequest>(
                                                  core_, options, &Stub::Seal, request)));
  return response.tokens();
}

absl::StatusOr<uint64_t> Contexts::Delete(const ContextRef& context, bool wait,
                                          const CallOptions& options) {
  v1::DeleteContextRequest request;
  *request.mutable_context() = ToMessage(context);
  request.set_wait(wait);
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (Wait<v1::DeleteContextResponse, v1::DeleteContextRequest>(
                             core_, options, &Stub::Delete, request)));
  return response.tokens_deleted();
}

absl::StatusOr<ContextDescription> Contexts::Describe(const ContextRef& context, uint32_t max_runs,
                                                      const CallOptions& options) {
  v1::DescribeContextRequest request;
  *request.mutable_context() = ToMessage(context);
  request.set_max_runs(max_runs);
  MNEMO_ASSIGN_OR_RETURN(const auto response,
                         (Wait<v1::DescribeContextResponse, v1::DescribeContextRequest>(
                             core_, options, &Stub::Describe, request)));
  return FromMessage(response);
}

absl::StatusOr<std::vector<Context>> Contexts::List(const Labels& labels,
                                                    const CallOptions& options) {
  std::vector<Context> contexts;
  v1::ListContextsRequest request;
  AddLabels(labels, *request.mutable_labels());
  do {
    MNEMO_ASSIGN_OR_RETURN(const auto response,
                           (Wait<v1::ListContextsResponse, v1::ListContextsRequest>(
                               core_, options, &Stub::List, request)));
    for (const v1::Context& context : response.contexts()) {
      contexts.push_back(FromMessage(context));
    }
    // A page that leads to itself would never end.
    if (!response.next_page_token().empty() && response.next_page_token() == request.page_token()) {
      return absl::InternalError("the daemon answered the same page token twice");
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return contexts;
}

}  // namespace mnemo::client
