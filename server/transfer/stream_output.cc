// What a stream sends, and when it reads and writes.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "server/transfer/stream_connection.h"
#include "storage/base/iovecs.h"
#include "storage/base/units.h"

namespace mnemo {
namespace {

using stream::CloseReason;

// Of answers, without a claim on the byte budget.
constexpr uint64_t kFreeBytes = 64 * kKiB;
// Who does not read its answers is not read from.
constexpr uint64_t kMostUnread = kMiB;
// What goes to the socket in one call.
constexpr uint64_t kMostAtOnce = 4 * kMiB;

}  // namespace

void StreamConnection::Send(std::string frame, Descriptor descriptor) {
  Enqueue({.bytes = std::move(frame), .descriptor = std::move(descriptor)});
}

void StreamConnection::Enqueue(Outgoing outgoing) {
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    // Payload is claimed by its request, which awaits that it has left.
    const uint64_t bytes = outgoing.bytes.size();
    outgoing_bytes_ += bytes;
    if (outgoing_bytes_ > kFreeBytes && !outgoing_claim_.TryAdd(bytes)) {
      outgoing_bytes_ -= bytes;
      return CloseSoonLocked(CloseReason::kOverload, "no memory for answers that nobody reads");
    }
    outgoing_.push_back(std::move(outgoing));
    if (writing_) return;
    writing_ = true;
    if (socket_->ssl() != nullptr) {
      ++working_;
      return loop_.Post([this] {
        WriteAll();
        Leave();
      });
    }
  }
  WriteAll();
}

int StreamConnection::GatherLocked(std::vector<iovec>& pieces) const {
  const int descriptor = outgoing_.front().sent == 0 ? outgoing_.front().descriptor.get() : -1;
  uint64_t bytes = 0;
  for (const Outgoing& next : outgoing_) {
    const bool front = &next == &outgoing_.front();
    if (!front && (next.descriptor.valid() || bytes >= kMostAtOnce)) break;
    uint64_t skip = next.sent;
    const auto add = [&](ByteView piece) {
      const uint64_t skipped = std::min<uint64_t>(skip, piece.size());
      skip -= skipped;
      piece = piece.subspan(skipped);
      if (piece.empty() || pieces.size() == kMaxIovecs) return;
      pieces.push_back({const_cast<uint8_t*>(piece.data()), piece.size()});
      bytes += piece.size();
    };
    add(AsBytes(next.bytes));
    for (const ByteView piece : next.payload.pieces()) add(piece);
  }
  return descriptor;
}

void StreamConnection::WriteAll() {
  std::vector<iovec> pieces;
  for (;;) {
    int descriptor = -1;
    pieces.clear();
    {
      MutexLock lock(mutex_);
      if (outgoing_.empty()) {
        outgoing_claim_.Release();
        writing_ = false;
        if (!closed_) {
          ChangeInterestLocked();
        } else {
          // The peer sees the end behind what it has not read yet, though requests
          // that have not noticed keep the descriptor for a while.
          ::shutdown(socket_->descriptor(), SHUT_RDWR);
        }
        return;
      }
      // Others only add behind it.
      descriptor = GatherLocked(pieces);
    }
    const ssize_t sent = socket_->Send(pieces, descriptor);
    std::vector<StreamRequest*> done;
    bool goes_on = false;
    {
      MutexLock lock(mutex_);
      goes_on = WroteLocked(sent, done);
    }
    PayloadLeft(done);
    if (!goes_on) return;
  }
}

bool StreamConnection::WroteLocked(ssize_t sent, std::vector<StreamRequest*>& done) {
  if (sent > 0) {
    auto left = static_cast<uint64_t>(sent);
    while (left > 0) {
      Outgoing& front = outgoing_.front();
      const uint64_t taken = std::min(left, front.size() - front.sent);
      const uint64_t of_bytes = front.bytes.size();
      outgoing_bytes_ -= std::min(front.sent + taken, of_bytes) - std::min(front.sent, of_bytes);
      front.sent += taken;
      left -= taken;
      if (front.sent < front.size()) break;
      if (front.then != nullptr) done.push_back(front.then);
      outgoing_.pop_front();
    }
    return true;
  }
  if (closed_ || sent < 0) {
    // Nobody reads it any more; whoever reads from the socket sees its end.
    DropOutgoingLocked(done);
    return true;
  }
  blocked_ = true;
  writing_wait_.Begin(rooms_.gate.clock().Mono());
  ChangeInterestLocked();
  return false;
}

void StreamConnection::DropOutgoingLocked(std::vector<StreamRequest*>& done) {
  for (const Outgoing& dropped : outgoing_) {
    if (dropped.then != nullptr) done.push_back(dropped.then);
  }
  outgoing_.clear();
  outgoing_bytes_ = 0;
}

void StreamConnection::ChangeInterestLocked() {
  const bool room = blocked_ || socket_->reading_wants_room();
  const bool input = outgoing_bytes_ <= kMostUnread && !paused_;
  const uint32_t wanted = (room ? EPOLLOUT : 0u) | (input ? static_cast<uint32_t>(EPOLLIN) : 0u);
  if (wanted == interest_ || closed_) return;
  interest_ = wanted;
  loop_.Change(socket_->descriptor(), wanted, *this);
}

}  // namespace mnemo
