// Requests that register memory, and give it up.
#pragma once

#include <memory>
#include <string>

#include "proto/stream/messages.h"
#include "server/transfer/stream_request.h"

namespace mnemo {

// On the executor, since mapping, and filling staging memory, takes a while.
class RegisterStreamRequest final : public StreamRequest {
 public:
  RegisterStreamRequest(const RequestRooms& rooms, const stream::Header& header, ByteView body)
      : StreamRequest(rooms, header, body) {}
  const MethodRule& rule() const override;
  bool WantsDescriptor() const override;
  void Bring(Descriptor descriptor) override { file_ = std::move(descriptor); }
  void OnForeignSender() override { foreign_ = true; }
  Progress Run() override;

 private:
  bool Parse() override;
  std::string Answer() const override;
  absl::StatusOr<uint32_t> Add();

  stream::RegisterRequest request_;
  Descriptor file_;
  bool foreign_ = false;
  stream::RegisterAnswer answer_;
};

// What copies at this moment keeps its memory until it has ended.
class UnregisterStreamRequest final : public StreamRequest {
 public:
  UnregisterStreamRequest(const RequestRooms& rooms, const stream::Header& header, ByteView body)
      : StreamRequest(rooms, header, body) {}
  const MethodRule& rule() const override;
  Progress Run() override;

 private:
  bool Parse() override;
  std::string Answer() const override;
  stream::UnregisterRequest request_;
};

}  // namespace mnemo
