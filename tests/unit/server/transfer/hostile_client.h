// A process that offers its memory over a UNIX socket and misbehaves on demand.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "storage/base/descriptor.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo {

class HostileClient {
 public:
  static constexpr size_t kBytes = 1 << 20;
  static constexpr char kFill = 'p';

  // Forks; connected, with its memory filled, when this returns.
  HostileClient() {
    const std::string path = dir_ / "s";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    const auto* name = reinterpret_cast<const sockaddr*>(&address);
    const Descriptor listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(listener.get(), name, sizeof(address)), 0);
    EXPECT_EQ(::listen(listener.get(), 1), 0);
    child_ = ::fork();
    EXPECT_GE(child_, 0);
    if (child_ == 0) {
      const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (::connect(socket, name, sizeof(address)) != 0) ::_exit(1);
      Serve(socket);
    }
    socket_ = Descriptor(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_TRUE(socket_.valid());
    EXPECT_EQ(::read(socket_.get(), &address_, sizeof(address_)),
              static_cast<ssize_t>(sizeof(address_)));
  }
  ~HostileClient() { Kill(); }

  int socket() const { return socket_.get(); }
  pid_t pid() const { return child_; }
  uint64_t address() const { return address_; }

  // Its memory is gone when this returns.
  void Unmap() { Ask('u'); }
  // The byte at `offset` of its memory.
  char Peek(uint32_t offset) {
    EXPECT_EQ(::write(socket_.get(), "p", 1), 1);
    EXPECT_EQ(::write(socket_.get(), &offset, sizeof(offset)),
              static_cast<ssize_t>(sizeof(offset)));
    return Answer();
  }
  // Dead, and its number free, when this returns.
  void Kill() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = -1;
  }

 private:
  char Answer() {
    char answer = 0;
    EXPECT_EQ(::read(socket_.get(), &answer, 1), 1);
    return answer;
  }
  void Ask(char what) {
    EXPECT_EQ(::write(socket_.get(), &what, 1), 1);
    Answer();
  }

  // In the child: nothing but system calls.
  [[noreturn]] static void Serve(int socket) {
    auto* memory = static_cast<char*>(
        ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory == MAP_FAILED) ::_exit(1);
    std::memset(memory, kFill, kBytes);
    const auto address = reinterpret_cast<uint64_t>(memory);
    if (::write(socket, &address, sizeof(address)) < 0) ::_exit(1);
    char what;
    while (::read(socket, &what, 1) == 1) {
      char answer = 0;
      uint32_t offset = 0;
      if (what == 'u') ::munmap(memory, kBytes);
      if (what == 'p' && ::read(socket, &offset, sizeof(offset)) > 0) answer = memory[offset];
      if (::write(socket, &answer, 1) < 0) break;
    }
    ::_exit(0);
  }

  TempDir dir_;
  Descriptor socket_;
  pid_t child_ = -1;
  uint64_t address_ = 0;
};

}  // namespace mnemo
