#include "server/transfer/guarded_copy.h"

#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include <cstring>

#include "storage/base/status_macros.h"

namespace mnemo {
namespace {

// Of the copy that this thread is in; null outside. Volatile, since the handler
// reads it where the compiler sees nobody who does.
thread_local sigjmp_buf* volatile current_copy = nullptr;
struct sigaction earlier_action;

void OnBusError(int signal, siginfo_t* info, void* context) {
  // A fault of our copy comes from the kernel (code above 0), not from kill().
  if (current_copy != nullptr && info->si_code > 0) {
    // The jump restores no mask, and some blocks more than we asked for (TSan all).
    ::pthread_sigmask(SIG_SETMASK, &static_cast<ucontext_t*>(context)->uc_sigmask, nullptr);
    siglongjmp(*current_copy, 1);
  }
  if ((earlier_action.sa_flags & SA_SIGINFO) != 0) {
    earlier_action.sa_sigaction(signal, info, context);
  } else if (earlier_action.sa_handler != SIG_DFL && earlier_action.sa_handler != SIG_IGN) {
    earlier_action.sa_handler(signal);
  } else {
    // Back to what the system does. A fault happens again at once and ends the
    // process where it stands; a sent signal is sent again.
    ::sigaction(signal, &earlier_action, nullptr);
    if (info->si_code <= 0) ::raise(signal);
  }
}

bool Install() {
  struct sigaction action {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  return ::sigaction(SIGBUS, &action, &earlier_action) == 0;
}

}  // namespace

bool GuardedCopy(void* to, const void* from, size_t bytes) {
  static const bool installed = Install();
  MNEMO_CHECK(installed);
  sigjmp_buf here;
  // Nothing that has a destructor lies between here and the copy.
  if (sigsetjmp(here, 0) != 0) {
    current_copy = nullptr;
    return false;
  }
  current_copy = &here;
  if (bytes > 0) std::memcpy(to, from, bytes);
  current_copy = nullptr;
  return true;
}

}  // namespace mnemo
