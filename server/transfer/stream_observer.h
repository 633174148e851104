// What metrics and the log learn of streams. Implemented by server/observe's user.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "proto/stream/frame.h"
#include "server/identity/identity.h"

namespace mnemo {

// Thread-safe; neither blocks nor throws.
class StreamObserver {
 public:
  virtual ~StreamObserver() = default;
  virtual void OnStreamOpened() = 0;
  // Once for each that was opened.
  virtual void OnStreamClosed(stream::CloseReason reason) = 0;
};

class NullStreamObserver final : public StreamObserver {
 public:
  void OnStreamOpened() override {}
  void OnStreamClosed(stream::CloseReason) override {}
};

}  // namespace mnemo
