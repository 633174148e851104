// The handler of StreamService.
#pragma once

#include <string>
#include <utility>

#include "mnemo/v1/stream.grpc.pb.h"
#include "server/identity/ticket_book.h"
#include "server/rpc/unary.h"

namespace mnemo {

class StreamServiceHandler final : public v1::StreamService::CallbackService {
 public:
  // `unix_socket`: empty for a node without streams.
  StreamServiceHandler(Gate& gate, TicketBook& tickets, std::string unix_socket)
      : gate_(gate), tickets_(tickets), unix_socket_(std::move(unix_socket)) {}

  grpc::ServerUnaryReactor* Open(grpc::CallbackServerContext* context,
                                 const v1::OpenStreamRequest* request,
                                 v1::OpenStreamResponse* response) override;

 private:
  Gate& gate_;
  TicketBook& tickets_;
  const std::string unix_socket_;
};

}  // namespace mnemo
