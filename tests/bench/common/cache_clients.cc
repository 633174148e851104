#include "tests/bench/common/cache_clients.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "storage/base/status_macros.h"

namespace mnemo::bench {
namespace {

// `head`, the value, and the end of a line.
absl::Status SendValue(LineSocket& socket, std::string_view head, std::span<const uint8_t> value) {
  iovec pieces[3] = {{const_cast<char*>(head.data()), head.size()},
                     {const_cast<uint8_t*>(value.data()), value.size()},
                     {const_cast<char*>("\r\n"), 2}};
  return socket.Send(pieces);
}

// The value that `head` announces.
absl::Status ReadValue(LineSocket& socket, std::string_view head, std::span<uint8_t> into) {
  MNEMO_RETURN_IF_ERROR(socket.Expect(head));
  MNEMO_RETURN_IF_ERROR(socket.ReadExactly(into));
  return socket.Expect("");
}

}  // namespace

absl::Status RedisClient::Set(std::string_view key, std::span<const uint8_t> value) {
  MNEMO_RETURN_IF_ERROR(SendValue(
      socket_,
      fmt::format("*3\r\n$3\r\nSET\r\n${}\r\n{}\r\n${}\r\n", key.size(), key, value.size()),
      value));
  return socket_.Expect("+OK");
}

absl::Status RedisClient::Get(std::string_view key, std::span<uint8_t> into) {
  MNEMO_RETURN_IF_ERROR(
      socket_.Send(fmt::format("*2\r\n$3\r\nGET\r\n${}\r\n{}\r\n", key.size(), key)));
  return ReadValue(socket_, fmt::format("${}", into.size()), into);
}

absl::Status RedisClient::FlushAll() {
  // Not SYNC, which gives the memory back to the system as well: its next values would
  // have to touch it anew, which nobody else here does.
  MNEMO_RETURN_IF_ERROR(socket_.Send("FLUSHALL ASYNC\r\n"));
  MNEMO_RETURN_IF_ERROR(socket_.Expect("+OK"));
  for (;;) {
    MNEMO_RETURN_IF_ERROR(socket_.Send("INFO memory\r\n"));
    const absl::StatusOr<std::string> head = socket_.ReadLine();
    MNEMO_RETURN_IF_ERROR(head.status());
    if (!head->starts_with('$')) return absl::InternalError("redis: " + *head);
    std::vector<uint8_t> text(std::stoul(head->substr(1)));
    MNEMO_RETURN_IF_ERROR(socket_.ReadExactly(text));
    MNEMO_RETURN_IF_ERROR(socket_.Expect(""));
    const std::string_view said(reinterpret_cast<const char*>(text.data()), text.size());
    if (said.find("lazyfree_pending_objects:0\r\n") != std::string_view::npos) {
      return absl::OkStatus();
    }
  }
}

absl::Status MemcachedClient::Set(std::string_view key, std::span<const uint8_t> value) {
  MNEMO_RETURN_IF_ERROR(
      SendValue(socket_, fmt::format("set {} 0 0 {}\r\n", key, value.size()), value));
  return socket_.Expect("STORED");
}

absl::Status MemcachedClient::Get(std::string_view key, std::span<uint8_t> into) {
  MNEMO_RETURN_IF_ERROR(socket_.Send(fmt::format("get {}\r\n", key)));
  MNEMO_RETURN_IF_ERROR(ReadValue(socket_, fmt::format("VALUE {} 0 {}", key, into.size()), into));
  return socket_.Expect("END");
}

absl::Status MemcachedClient::FlushAll() {
  MNEMO_RETURN_IF_ERROR(socket_.Send("flush_all\r\n"));
  return socket_.Expect("OK");
}

}  // namespace mnemo::bench
