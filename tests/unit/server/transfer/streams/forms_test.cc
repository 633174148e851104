// Every operation through every form of a client's memory, and clients that are killed in
// the middle of them.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <thread>

#include "storage/base/local_socket.h"
#include "storage/codec/envelope.h"
#include "tests/unit/server/transfer/streams/stream_fixture.h"

namespace mnemo {
namespace {

using stream::FrameType;
using stream::MakeFrame;
using stream::RegisterRequest;
using ::testing::HasSubstr;

constexpr size_t kMemory = 4 * kMiB;

// Memory of one form that a client can read and write.
class FormMemory {
 public:
  explicit FormMemory(RegionForm form) : form_(form) {
    // Without seals a memfd is a file like any other of a tmpfs.
    const unsigned flags =
        form == RegionForm::kMapped ? MFD_CLOEXEC | MFD_ALLOW_SEALING : unsigned{MFD_CLOEXEC};
    Descriptor file(::memfd_create("test", flags));
    MNEMO_CHECK(::ftruncate(file.get(), kMemory) == 0);
    if (form == RegionForm::kMapped) {
      MNEMO_CHECK(::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    }
    Map(std::move(file));
    // A hole is no memory that anybody could write to.
    std::fill(data_, data_ + kMemory, '\0');
  }
  ~FormMemory() { ::munmap(data_, kMemory); }
  FormMemory(const FormMemory&) = delete;
  FormMemory& operator=(const FormMemory&) = delete;

  RegisterRequest Request() const {
    switch (form_) {
      case RegionForm::kProcess:
        return {.kind = RegisterRequest::Kind::kProcess,
                .address = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(data_)),
                .bytes = kMemory};
      case RegionForm::kStaging:
        return {.kind = RegisterRequest::Kind::kStaging, .bytes = kMemory};
      default:
        return {.bytes = kMemory};
    }
  }
  // That goes with the request; below 0: none.
  int descriptor() const {
    return form_ == RegionForm::kMapped || form_ == RegionForm::kShared ? file_.get() : -1;
  }
  // Registers it with the peer's stream. Staging memory is the daemon's from now on.
  absl::StatusOr<uint32_t> RegisterWith(StreamPeer& peer) {
    stream::RegisterAnswer answer;
    const absl::Status status =
        peer.Call(FrameType::kRegister, Encode(Request()), answer, descriptor());
    if (!status.ok()) return status;
    EXPECT_EQ(answer.form, static_cast<uint8_t>(form_));
    if (form_ == RegionForm::kStaging) {
      ::munmap(data_, kMemory);
      Map(std::move(peer.last()->descriptor));
    }
    return answer.region;
  }

  char* data() const { return data_; }
  std::string Text(size_t offset, size_t size) const { return {data_ + offset, size}; }

 private:
  void Map(Descriptor file) {
    file_ = std::move(file);
    void* const mapped =
        ::mmap(nullptr, kMemory, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    MNEMO_CHECK(mapped != MAP_FAILED);
    data_ = static_cast<char*>(mapped);
  }

  const RegionForm form_;
  Descriptor file_;
  char* data_ = nullptr;
};

class StreamFormsTest : public StreamTest, public ::testing::WithParamInterface<RegionForm> {
 protected:
  StreamFormsTest() { OpenSpace("opaque"); }

  // The bytes of a part as the engine has them, on no plane at all.
  std::string Stored(std::string_view key) {
    CallContext call;
    call.identity.tenant = kLocalTenant;
    const auto session =
        blocks_->Get(call, {.space = std::string("opaque"), .keys = {.keys = {key}}});
    MNEMO_CHECK(session.ok());
    std::string bytes;
    for (;;) {
      const auto step = (*session)->Next();
      MNEMO_CHECK(step.ok());
      if (!*step) return bytes;
      for (const ByteView piece : (*step)->bytes.pieces()) bytes += AsText(piece);
    }
  }

  static size_t OpenDescriptors() {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return static_cast<size_t>(std::distance(begin(all), end(all)));
  }
};

TEST_P(StreamFormsTest, EveryOperationDoesTheSame) {
  FormMemory memory(GetParam());
  StreamPeer peer = Greeted();
  const auto region = memory.RegisterWith(peer);
  ASSERT_OK(region);
  const std::string payload = TestPayload(TestPart(1), 0, kMiB + 77);

  stream::OfferRequest offer{.scope = {.space_name = "opaque"}};
  offer.parts = {{.key = "k", .size = payload.size()}};
  stream::OfferAnswer offered;
  ASSERT_OK(peer.Call(FrameType::kOffer, Encode(offer), offered));
  EXPECT_EQ(offered.verdicts[0].verdict, static_cast<uint8_t>(Verdict::kWant));

  // From two runs of the memory.
  stream::PutRequest put = PutOf(*region, 100, "k", payload.size());
  put.reservation = offered.reservation;
  const size_t run = 600'000;
  put.slices = {{.offset = 100, .length = run},
                {.offset = 2 * kMiB, .length = payload.size() - run}};
  put.places[0].count = 2;
  payload.copy(memory.data() + 100, run);
  payload.copy(memory.data() + 2 * kMiB, payload.size() - run, run);
  stream::PutAnswer stored;
  ASSERT_OK(peer.Call(FrameType::kPut, Encode(put), stored));
  ASSERT_OK(stored.parts[0].status);
  EXPECT_EQ(stored.parts[0].outcome, static_cast<uint8_t>(PutOutcome::kStored));
  EXPECT_EQ(stored.parts[0].digest, DigestOf(AsBytes(payload)));
  EXPECT_TRUE(Stored("k") == payload);
  put.reservation = 0;
  ASSERT_OK(peer.Call(FrameType::kPut, Encode(put), stored));
  EXPECT_EQ(stored.parts[0].outcome, static_cast<uint8_t>(PutOutcome::kAlreadyPresent));

  stream::MatchRequest match{.scope = {.space_name = "opaque"}};
  match.keys.keys = {"k", "missing"};
  stream::MatchAnswer matched;
  ASSERT_OK(peer.Call(FrameType::kMatch, Encode(match), matched));
  EXPECT_EQ(matched.blocks, 1u);
  EXPECT_EQ(matched.fetch_bytes, payload.size());
  stream::TouchRequest touch{.scope = {.space_name = "opaque"}};
  touch.keys = match.keys;
  stream::TouchAnswer touched;
  ASSERT_OK(peer.Call(FrameType::kTouch, Encode(touch), touched));
  EXPECT_EQ(touched.found, 1u);

  // Into two runs, the second key fails alone, and nothing beside them changes.
  std::fill(memory.data(), memory.data() + kMemory, '.');
  stream::GetRequest get = GetOf(*region, 0, "k", 0);
  get.keys.keys = {"k", "missing", "k"};
  get.slices = {{.offset = 3 * kMiB, .length = 400'000, .stride = 500'000, .count = 2},
                {.offset = 4096, .length = payload.size() - 800'000},
                {.offset = 0, .length = 16},
                {.offset = kMemory - 16, .length = 17}};
  get.places = {{.region = *region, .first = 0, .count = 2},
                {.region = *region, .first = 2, .count = 1},
                {.region = *region, .first = 3, .count = 1}};
  stream::GetAnswer got;
  ASSERT_OK(peer.Call(FrameType::kGet, Encode(get), got));
  ASSERT_OK(got.parts[0].status);
  EXPECT_EQ(got.parts[0].digest, DigestOf(AsBytes(payload)));
  EXPECT_THAT(got.parts[1].status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
  EXPECT_THAT(got.parts[2].status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("places[2]")));
  std::string expected(kMemory, '.');
  expected.replace(3 * kMiB, 400'000, payload, 0, 400'000);
  expected.replace(3 * kMiB + 500'000, 400'000, payload, 400'000, 400'000);
  expected.replace(4096, payload.size() - 800'000, payload, 800'000);
  EXPECT_TRUE(memory.Text(0, kMemory) == expected);

  stream::UnregisterAnswer gone;
  ASSERT_OK(peer.Call(FrameType::kUnregister, Encode(stream::UnregisterRequest{.region = *region}),
                      gone));
  ASSERT_OK(peer.Call(FrameType::kPut, Encode(PutOf(*region, 0, "other", 16)), stored));
  EXPECT_THAT(stored.parts[0].status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
}

// A client's process: greets, registers memory, waits for both answers, asks for a put and
// a get and begins a frame, and is killed. Only system calls: it is forked off threads.
[[noreturn]] void LiveAndDie(const sockaddr_un& address, std::string_view greeting, int descriptor,
                             size_t answers, std::string_view work) {
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    ::_exit(1);
  }
  const ssize_t sent = SendSome(socket, AsBytes(greeting), descriptor);
  if (sent != static_cast<ssize_t>(greeting.size())) ::_exit(2);
  char buffer[4096];
  for (size_t came = 0; came < answers;) {
    const ssize_t bytes = ::recv(socket, buffer, std::min(sizeof(buffer), answers - came), 0);
    if (bytes <= 0) ::_exit(3);
    came += static_cast<size_t>(bytes);
  }
  if (::send(socket, work.data(), work.size(), MSG_NOSIGNAL) < 0) ::_exit(4);
  ::kill(::getpid(), SIGKILL);
  ::_exit(5);
}

TEST_P(StreamFormsTest, ClientsThatAreKilledInTheMiddleLeaveNothingBehind) {
  constexpr uint64_t kClients = 200;
  constexpr uint64_t kKeys = 8;
  FormMemory memory(GetParam());
  const std::string greeting =
      MakeFrame({.type = FrameType::kHello, .id = 1}, Encode(stream::Hello{})) +
      MakeFrame({.type = FrameType::kRegister, .id = 2}, Encode(memory.Request()));
  // How long the answers are, and whose region is 1.
  size_t answers = 0;
  {
    StreamPeer sample = NewPeer();
    ASSERT_TRUE(sample.Write(greeting, memory.descriptor()));
    for (int i = 0; i < 2; ++i) {
      const auto answer = sample.Read();
      ASSERT_TRUE(answer);
      answers += stream::kHeaderBytes + answer->body.size();
    }
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path().copy(address.sun_path, sizeof(address.sun_path) - 1);
  AwaitNoConnections();
  const size_t descriptors = OpenDescriptors();
  const auto figures = [&] { return regions_.figures()[static_cast<size_t>(GetParam()) - 1]; };
  const uint64_t before = figures().registered;
  for (uint64_t i = 0; i < kClients; ++i) {
    const std::string key = std::to_string(i % kKeys);
    const std::string put =
        MakeFrame({.type = FrameType::kPut, .id = 3}, Encode(PutOf(1, 0, key, kMiB)));
    const std::string get =
        MakeFrame({.type = FrameType::kGet, .id = 4}, Encode(GetOf(1, 0, key, kMiB)));
    const std::string work = put + get + put.substr(0, i % put.size());
    // What those before had is given back before its limits are reached.
    while (server_->connections() > 8) std::this_thread::yield();
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) LiveAndDie(address, greeting, memory.descriptor(), answers, work);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the client ended by itself: " << WEXITSTATUS(status);
  }
  AwaitNoConnections();
  EXPECT_EQ(figures().registered - before, kClients);
  // What a stream had goes right behind it.
  while (figures().regions > 0 || OpenDescriptors() > descriptors) std::this_thread::yield();
  EXPECT_EQ(gate_->bytes().used(), 0u);
  EXPECT_LE(store_->Levels()[0].stats.live_bytes, kKeys * (kMiB + 4096));
}

INSTANTIATE_TEST_SUITE_P(Forms, StreamFormsTest,
                         ::testing::Values(RegionForm::kMapped, RegionForm::kShared,
                                           RegionForm::kProcess, RegionForm::kStaging),
                         [](const auto& form) { return std::string(RegionFormLabel(form.param)); });

}  // namespace
}  // namespace mnemo
