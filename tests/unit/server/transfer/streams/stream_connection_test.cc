// A connection by itself: when it is gone.
#include "server/transfer/stream_connection.h"

#include <sys/socket.h>

#include <utility>

#include "tests/unit/server/transfer/streams/stream_fixture.h"

namespace mnemo {
namespace {

TEST_F(StreamTest, WhatIsDrainedBehindItsEndIsGoneOnce) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  Descriptor ours(ends[0]);
  const Descriptor theirs(ends[1]);
  ASSERT_OK_AND_ASSIGN(Peer peer, Peer::Of(ours.get()));
  CopyCrew copies(0);
  int gone = 0;
  std::unique_ptr<StreamConnection> connection;
  {
    ASSERT_OK_AND_ASSIGN(const auto loop, EventLoop::Start("test", Nanos(0)));
    connection = std::make_unique<StreamConnection>(
        StreamRooms{.gate = *gate_,
                    .blocks = *blocks_,
                    .identity = *identity_,
                    .tickets = tickets_,
                    .regions = regions_,
                    .observer = streams_},
        copies, *loop, stream::StreamSocket::MakePlain(std::move(ours)),
        StreamOrigin{.plane = std::string(kFastPlane), .peer = std::move(peer)},
        [&](StreamConnection&) { ++gone; });
    // As when the server begins to drain before it has heard that one has ended.
    loop->Post([&] {
      connection->Start();
      connection->Close(stream::CloseReason::kDone, "");
      connection->Drain();
    });
  }
  EXPECT_EQ(gone, 1);
}

}  // namespace
}  // namespace mnemo
