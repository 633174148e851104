#include "mnemo/completions.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "storage/base/descriptor.h"
#include "storage/base/mutex.h"

namespace mnemo::client {

class CompletionQueue::Ends {
 public:
  explicit Ends(Descriptor event) : event_(std::move(event)) {}
  int event_fd() const { return event_.get(); }
  void Add(Completion completion) {
    MutexLock lock(mutex_);
    ended_.push_back(std::move(completion));
    const uint64_t one = 1;
    // Full means that it is readable already.
    if (::write(event_.get(), &one, sizeof(one)) < 0) return;
  }
  std::vector<Completion> Take() {
    MutexLock lock(mutex_);
    uint64_t count = 0;
    // Nothing to read means that nothing has ended.
    if (::read(event_.get(), &count, sizeof(count)) < 0) return {};
    return std::exchange(ended_, {});
  }

 private:
  const Descriptor event_;
  Mutex mutex_;
  std::vector<Completion> ended_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<std::unique_ptr<CompletionQueue>> CompletionQueue::Create() {
  Descriptor event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) return absl::ResourceExhaustedError("no descriptor for an eventfd");
  return std::unique_ptr<CompletionQueue>(
      new CompletionQueue(std::make_shared<Ends>(std::move(event))));
}

int CompletionQueue::event_fd() const { return ends_->event_fd(); }

std::vector<CompletionQueue::Completion> CompletionQueue::Drain() { return ends_->Take(); }

std::function<void(CompletionQueue::Completion)> CompletionQueue::Adder() {
  return [ends = ends_](Completion completion) { ends->Add(std::move(completion)); };
}

}  // namespace mnemo::client
