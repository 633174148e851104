// The handler of StreamService.
#pragma once

#include <string>
#include <utility>

#include "mnemo/v1/stream.grpc.pb.h"
#include "server/identity/ticket_book.h"
#include "server/rpc/unary.h"

namespace mnemo {

// Where a node serves streams.
struct StreamPlaces {
  std::string unix_socket;  // empty: nowhere on its host
  std::string tcp_address;  // as it was bound; empty: nowhere for others
  bool tcp_tls = false;
};

class StreamServiceHandler final : public v1::StreamService::CallbackService {
 public:
  StreamServiceHandler(Gate& gate, TicketBook& tickets, StreamPlaces places)
      : gate_(gate), tickets_(tickets), places_(std::move(places)) {}

  grpc::ServerUnaryReactor* Open(grpc::CallbackServerContext* context,
                                 const v1::OpenStreamRequest* request,
                                 v1::OpenStreamResponse* response) override;

 private:
  Gate& gate_;
  TicketBook& tickets_;
  const StreamPlaces places_;
};

}  // namespace mnemo
