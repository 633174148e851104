#include "server/observe/announce.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

TEST(AnnounceTest, ReadyLineNamesWhatIsBound) {
  EXPECT_EQ(ReadyLine(42, {.grpc = "127.0.0.1:5",
                           .unix_socket = "/s",
                           .metrics = "127.0.0.1:6",
                           .probes = "127.0.0.1:7"}),
            "{\"event\":\"ready\",\"pid\":42,\"grpc\":\"127.0.0.1:5\",\"unix\":\"/s\","
            "\"metrics\":\"127.0.0.1:6\",\"probes\":\"127.0.0.1:7\"}\n");
  EXPECT_EQ(ReadyLine(1, {.grpc = "[::1]:5"}),
            "{\"event\":\"ready\",\"pid\":1,\"grpc\":\"[::1]:5\"}\n");
}

TEST(AnnounceTest, FileAppearsWithTheWholeLine) {
  const TempDir directory;
  const std::unique_ptr<FileSystem> files = MakePosixFileSystem();
  const std::string path = directory / "ready";
  ASSERT_OK(WriteReadyLine(*files, path, "old line that is longer\n"));
  ASSERT_OK(WriteReadyLine(*files, path, "line\n"));
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadSmallFile(*files, path, 1000));
  EXPECT_EQ(text, "line\n");
  EXPECT_OK(WriteReadyLine(*files, "", "line\n"));
  EXPECT_FALSE(WriteReadyLine(*files, directory / "none/ready", "line\n").ok());
}

TEST(AnnounceTest, ServiceManagerGetsTheState) {
  const TempDir directory;
  const std::string path = directory / "notify";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(path.size(), sizeof(address.sun_path));
  std::memcpy(address.sun_path, path.c_str(), path.size());
  const int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ASSERT_GE(descriptor, 0);
  ASSERT_EQ(bind(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);

  ASSERT_OK(NotifyServiceManager(path, "READY=1\nSTATUS=serving"));
  std::array<char, 100> buffer{};
  const ssize_t size = recv(descriptor, buffer.data(), buffer.size(), MSG_DONTWAIT);
  close(descriptor);
  ASSERT_GT(size, 0);
  EXPECT_EQ(std::string(buffer.data(), static_cast<size_t>(size)), "READY=1\nSTATUS=serving");
}

TEST(AnnounceTest, ServiceManagerThatIsNotThereIsAnErrorNotACrash) {
  const TempDir directory;
  EXPECT_OK(NotifyServiceManager("", "READY=1"));
  EXPECT_THAT(NotifyServiceManager(directory / "nobody", "READY=1"),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(NotifyServiceManager("relative", "READY=1"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(NotifyServiceManager("/" + std::string(200, 'x'), "READY=1"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace mnemo
