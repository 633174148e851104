#include "server/transfer/region_requests.h"

#include <utility>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Whoever may open a stream may register memory in it.
const MethodRule& OpenRule() {
  static const MethodRule& rule = RuleOf("mnemo.v1.StreamService/Open");
  return rule;
}

}  // namespace

const MethodRule& RegisterStreamRequest::rule() const { return OpenRule(); }

bool RegisterStreamRequest::Parse() { return stream::Decode(body(), request_); }

bool RegisterStreamRequest::WantsDescriptor() const {
  return rooms_.payload == nullptr && request_.kind == stream::RegisterRequest::Kind::kFile;
}

absl::StatusOr<uint32_t> RegisterStreamRequest::Add() {
  if (rooms_.payload != nullptr) {
    return absl::FailedPreconditionError(
        "memory is registered over the UNIX socket of streams, by a process of the same host");
  }
  switch (request_.kind) {
    case stream::RegisterRequest::Kind::kFile:
      return rooms_.regions.AddFile(std::move(file_), request_.bytes);
    case stream::RegisterRequest::Kind::kProcess:
      if (foreign_) return rooms_.regions.RefuseForeign();
      return rooms_.regions.AddProcess(request_.address, request_.bytes);
    case stream::RegisterRequest::Kind::kStaging:
      break;
  }
  return rooms_.regions.AddStaging(request_.bytes, for_peer_);
}

StreamRequest::Progress RegisterStreamRequest::Run() {
  const absl::StatusOr<uint32_t> added = Add();
  if (!added.ok()) return Done(added.status());
  const auto region = rooms_.regions.Find(*added);
  if (!region.ok()) return Done(region.status());
  answer_ = {.region = *added, .form = static_cast<uint8_t>((*region)->form())};
  return Done(absl::OkStatus());
}

std::string RegisterStreamRequest::Answer() const { return stream::Encode(answer_); }

const MethodRule& UnregisterStreamRequest::rule() const { return OpenRule(); }

bool UnregisterStreamRequest::Parse() { return stream::Decode(body(), request_); }

StreamRequest::Progress UnregisterStreamRequest::Run() {
  return Done(rooms_.regions.Remove(request_.region));
}

std::string UnregisterStreamRequest::Answer() const {
  return stream::Encode(stream::UnregisterAnswer{});
}

}  // namespace mnemo
