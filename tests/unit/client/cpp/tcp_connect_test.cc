#include "client/cpp/tcp_connect.h"

#include <gtest/gtest.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "storage/base/descriptor.h"
#include "tests/support/certificates.h"
#include "tests/support/status_matchers.h"

namespace mnemo::client {
namespace {

using ::testing::HasSubstr;

// The same key, under the passphrase "secret".
std::string Encrypted(const std::string& key) {
  BIO* in = BIO_new_mem_buf(key.data(), static_cast<int>(key.size()));
  EVP_PKEY* read = PEM_read_bio_PrivateKey(in, nullptr, nullptr, nullptr);
  BIO* out = BIO_new(BIO_s_mem());
  char passphrase[] = "secret";
  EXPECT_EQ(PEM_write_bio_PKCS8PrivateKey(out, read, EVP_aes_128_cbc(), passphrase,
                                          sizeof(passphrase) - 1, nullptr, nullptr),
            1);
  char* text = nullptr;
  const long size = BIO_get_mem_data(out, &text);
  const std::string encrypted(text, static_cast<size_t>(size));
  BIO_free(out);
  EVP_PKEY_free(read);
  BIO_free(in);
  return encrypted;
}

// Standard input says the passphrase while it lives: who asks on a terminal asks there
// where there is none.
class Typed {
 public:
  explicit Typed(const std::string& text) : before_(::dup(STDIN_FILENO)) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    EXPECT_EQ(::write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
    ::close(ends[1]);
    ::dup2(ends[0], STDIN_FILENO);
    ::close(ends[0]);
  }
  ~Typed() {
    if (before_.valid()) ::dup2(before_.get(), STDIN_FILENO);
  }

 private:
  const Descriptor before_;
};

// Listens and never answers.
class Silent {
 public:
  Silent() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(socket_.get(), 8), 0);
    EXPECT_EQ(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  const std::string& address() const { return address_; }

 private:
  const Descriptor socket_;
  std::string address_;
};

TEST(TcpConnectTest, AKeyWithAPassphraseIsRefusedAndNotAskedFor) {
  const TestAuthority authority;
  const TestCertificate own = authority.Issue({.common_name = "app"});
  const Silent daemon;
  const Typed typed("secret\n");
  const TlsOptions tls{
      .ca = authority.certificate(), .certificate = own.certificate, .key = Encrypted(own.key)};
  EXPECT_THAT(ConnectTcp(daemon.address(), "127.0.0.1", tls,
                         std::chrono::steady_clock::now() + std::chrono::minutes(1))
                  .status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("without a passphrase")));
}

TEST(TcpConnectTest, AKeyWithoutOneIsTaken) {
  const TestAuthority authority;
  const TestCertificate own = authority.Issue({.common_name = "app"});
  const Silent daemon;
  const TlsOptions tls{
      .ca = authority.certificate(), .certificate = own.certificate, .key = own.key};
  EXPECT_THAT(ConnectTcp(daemon.address(), "127.0.0.1", tls,
                         std::chrono::steady_clock::now() + std::chrono::milliseconds(100))
                  .status(),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("in time")));
}

TEST(TcpConnectTest, ANameServerThatIsAwayIsNoMistakeOfTheCaller) {
  EXPECT_THAT(LookupError("node:7073", EAI_AGAIN),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("node:7073")));
  EXPECT_THAT(LookupError("node:7073", EAI_NONAME),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("node:7073")));
}

}  // namespace
}  // namespace mnemo::client
