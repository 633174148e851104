#include "server/rpc/stream_service.h"

#include "server/transfer/stream_connection.h"
#include "storage/base/status_macros.h"

namespace mnemo {

grpc::ServerUnaryReactor* StreamServiceHandler::Open(grpc::CallbackServerContext* context,
                                                     const v1::OpenStreamRequest*,
                                                     v1::OpenStreamResponse* response) {
  return UnaryCall::Start(
      gate_, RuleOf("mnemo.v1.StreamService/Open"), context,
      [this, response](const CallContext& call) -> absl::Status {
        if (unix_socket_.empty()) {
          return absl::FailedPreconditionError("this node serves no streams");
        }
        MNEMO_ASSIGN_OR_RETURN(const TicketBook::Issued issued,
                               tickets_.Issue(call.identity, kFastPlane));
        response->set_unix_socket(unix_socket_);
        response->set_ticket(issued.ticket);
        const Nanos left = issued.expires - gate_.clock().Mono();
        response->set_ticket_ms(static_cast<uint32_t>(
            std::chrono::duration_cast<std::chrono::milliseconds>(left).count()));
        return absl::OkStatus();
      });
}

}  // namespace mnemo
