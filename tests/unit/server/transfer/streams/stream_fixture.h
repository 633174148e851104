// A node that serves streams, in this process: real store, real engine, a real socket,
// and a clock that only tests turn; and a peer that can say whatever it likes.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/stream/messages.h"
#include "proto/stream/stream_socket.h"
#include "server/engine/block_engine.h"
#include "server/engine/event_hub.h"
#include "server/engine/space_engine.h"
#include "server/gate/gate.h"
#include "server/identity/identity_book.h"
#include "server/identity/ticket_book.h"
#include "server/transfer/stream_server.h"
#include "tests/support/block_store_fixture.h"
#include "tests/support/unsynced_file_system.h"

namespace mnemo {

// Counts streams. Thread-safe.
class CountingStreams final : public StreamObserver {
 public:
  void OnStreamOpened() override;
  void OnStreamClosed(stream::CloseReason reason) override;
  uint64_t opened() const;
  uint64_t closed(stream::CloseReason reason) const;
  // Blocks until so many have ended for this reason.
  void AwaitClosed(stream::CloseReason reason, uint64_t count);

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  uint64_t opened_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<stream::CloseReason, uint64_t> closed_ ABSL_GUARDED_BY(mutex_);
};

// Memory that a client shares: a memfd with both seals, mapped.
class SharedMemory {
 public:
  explicit SharedMemory(size_t size);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  int fd() const { return fd_.get(); }
  size_t size() const { return size_; }
  char* data() const { return data_; }
  std::string Text(size_t offset, size_t size) const { return {data_ + offset, size}; }

 private:
  const size_t size_;
  Descriptor fd_;
  char* data_ = nullptr;
};

// The other end of a stream, which waits for each answer. Not thread-safe.
class StreamPeer {
 public:
  explicit StreamPeer(const std::string& path);
  // Over TCP to "127.0.0.1:7073", under TLS of `context` where it is not null.
  static StreamPeer Tcp(const std::string& address, SSL_CTX* context = nullptr);

  bool connected() const { return socket_ != nullptr; }
  int socket() const { return socket_->descriptor(); }
  SSL* ssl() const { return socket_->ssl(); }
  void Close() { socket_.reset(); }
  // Raw bytes, all of them; false: the daemon no longer listens.
  bool Write(std::string_view bytes, int descriptor = -1);
  uint64_t Send(stream::FrameType type, const std::string& body, int descriptor = -1,
                uint32_t timeout_ms = 0);
  void SendCancel(uint64_t id) {
    Write(stream::MakeFrame({.type = stream::FrameType::kCancel, .id = id}, ""));
  }

  struct Answer {
    stream::Header header;
    std::string body;
    std::string payload;  // of DATA
    Descriptor descriptor;
  };
  // The next frame; none: the stream has ended.
  std::optional<Answer> Read();
  // Reads until the stream ends, and answers the reason of its CLOSE; kLost without.
  stream::CloseReason ReadToEnd();

  // Sends a request and reads its answer.
  template <typename AnswerBody>
  absl::Status Call(stream::FrameType type, const std::string& body, AnswerBody& answer,
                    int descriptor = -1) {
    const uint64_t id = Send(type, body, descriptor);
    last_ = Read();
    if (!last_) return absl::UnavailableError("the stream has ended");
    if (last_->header.id != id || last_->header.type != type || !last_->header.answer) {
      return absl::InternalError("the answer is of another request");
    }
    absl::Status status;
    if (!stream::Decode(AsBytes(last_->body), status, answer)) {
      return absl::InternalError("the answer is malformed");
    }
    return status;
  }
  // Of the last Call.
  std::optional<Answer>& last() { return last_; }

  absl::StatusOr<stream::Welcome> Hello(const stream::Hello& hello = {});
  absl::StatusOr<uint32_t> Register(const SharedMemory& memory);

 private:
  StreamPeer() = default;
  // Takes what comes. False: the stream has ended.
  bool ReadMore();

  std::unique_ptr<stream::StreamSocket> socket_;
  stream::FrameReader reader_{stream::End::kClient};
  std::vector<Descriptor> came_;
  std::optional<Answer> last_;
  uint64_t next_id_ = 1;
};

class StreamTest : public ::testing::Test {
 protected:
  explicit StreamTest(const IdentityOptions& identity = {}, const GateOptions& gate = {},
                      const StreamServerOptions& streams = {});
  ~StreamTest() override;

  std::string path() const { return dir_ / "streams"; }
  StreamPeer NewPeer() { return StreamPeer(path()); }
  // One that has been welcomed.
  StreamPeer Greeted();
  // A space of parts of any size.
  void OpenSpace(const std::string& name, uint64_t tenant = kLocalTenant);
  // Blocks until no stream is left.
  void AwaitNoConnections();
  // Keeps all threads of the class of Touch busy, so that its requests stay under way,
  // until ReleaseThreads.
  void HoldThreads();
  void ReleaseThreads();

  static stream::PutRequest PutOf(uint32_t region, uint64_t offset, std::string_view key,
                                  uint64_t size);
  static stream::GetRequest GetOf(uint32_t region, uint64_t offset, std::string_view key,
                                  uint64_t room);

  // What held threads look at while they leave, so it outlives the gate's threads.
  Mutex hold_;
  CondVar hold_changed_;
  bool released_ ABSL_GUARDED_BY(hold_) = false;
  TempDir dir_;
  FakeClock clock_;
  UnsyncedFileSystem files_;
  NullRpcObserver rpc_observer_;
  NullEngineObserver engine_observer_;
  CountingStreams streams_;
  EventHub events_{1};
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<IdentityBook> identity_;
  TicketBook tickets_{TicketOptions(), clock_};
  RegionLedger regions_{RegionLimits()};
  std::unique_ptr<SpaceRegistry> registry_;
  std::unique_ptr<SpaceEngine> spaces_;
  std::unique_ptr<BlockEngine> blocks_;
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<StreamServer> server_;
};

}  // namespace mnemo
