#include "server/rpc/stream_service.h"

#include "server/transfer/stream_connection.h"
#include "storage/base/status_macros.h"

namespace mnemo {

grpc::ServerUnaryReactor* StreamServiceHandler::Open(grpc::CallbackServerContext* context,
                                                     const v1::OpenStreamRequest* request,
                                                     v1::OpenStreamResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.StreamService/Open"), context,
      [this, request, response](const CallContext& call) -> absl::Status {
        const bool tcp = request->plane() == v1::STREAM_PLANE_TCP;
        if (!tcp && request->plane() != v1::STREAM_PLANE_UNSPECIFIED &&
            request->plane() != v1::STREAM_PLANE_UNIX) {
          return absl::InvalidArgumentError("plane must be UNIX or TCP");
        }
        if ((tcp ? places_.tcp_address : places_.unix_socket).empty()) {
          return absl::FailedPreconditionError(
              tcp ? "this node serves no streams over TCP"
                  : "this node serves no streams over a UNIX socket");
        }
        MNEMO_ASSIGN_OR_RETURN(const TicketBook::Issued issued,
                               tickets_.Issue(call.identity, tcp ? kBulkPlane : kFastPlane));
        if (tcp) {
          response->set_tcp_address(places_.tcp_address);
          response->set_tls(places_.tcp_tls);
        } else {
          response->set_unix_socket(places_.unix_socket);
        }
        response->set_ticket(issued.ticket);
        const Nanos left = issued.expires - gate_.clock().Mono();
        response->set_ticket_ms(static_cast<uint32_t>(
            std::chrono::duration_cast<std::chrono::milliseconds>(left).count()));
        return absl::OkStatus();
      });
}

}  // namespace mnemo
