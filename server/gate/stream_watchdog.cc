#include "server/gate/stream_watchdog.h"

#include <vector>

namespace mnemo {
namespace {

constexpr Nanos kScanPeriod = std::chrono::seconds(1);

}  // namespace

StreamWatchdog::StreamWatchdog(Clock& clock, Nanos limit)
    : clock_(clock), limit_(limit), thread_([this] { Run(); }) {}

StreamWatchdog::~StreamWatchdog() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.Signal();
  }
  thread_.join();
}

void StreamWatchdog::Add(WatchedStream& stream) {
  MutexLock lock(mutex_);
  if (sleeping_) wake_.Signal();
  streams_.insert(&stream);
  if (shutting_down_) stream.OnShutdown();
}

void StreamWatchdog::Remove(WatchedStream& stream) {
  MutexLock lock(mutex_);
  streams_.erase(&stream);
}

void StreamWatchdog::Scan() {
  std::vector<WatchedStream*> to_end;
  {
    MutexLock lock(mutex_);
    const MonoTime now = clock_.Mono();
    for (WatchedStream* stream : streams_) {
      if (stream->Overdue(now)) stream->OnOverdue();
      if (stream->Stalled(limit_, now) && stream->OnStalled()) to_end.push_back(stream);
    }
  }
  for (WatchedStream* stream : to_end) stream->EndStalled();
}

void StreamWatchdog::AnnounceShutdown() {
  MutexLock lock(mutex_);
  shutting_down_ = true;
  for (WatchedStream* stream : streams_) stream->OnShutdown();
}

size_t StreamWatchdog::streams() const {
  MutexLock lock(mutex_);
  return streams_.size();
}

StreamWatchdog::Waiting StreamWatchdog::waiting() const {
  MutexLock lock(mutex_);
  Waiting waiting;
  for (const WatchedStream* stream : streams_) {
    waiting.for_input += stream->reading_wait_.on();
    waiting.for_output += stream->writing_wait_.on();
  }
  return waiting;
}

void StreamWatchdog::Run() {
  for (;;) {
    {
      MutexLock lock(mutex_);
      sleeping_ = true;
      while (streams_.empty() && !stopping_) wake_.Wait(mutex_);
      sleeping_ = false;
      if (stopping_) return;
      wake_.WaitFor(mutex_, kScanPeriod);
      if (stopping_) return;
    }
    Scan();
  }
}

}  // namespace mnemo
