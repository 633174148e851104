// Certificates that live as long as a test: an authority and what it signs.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace mnemo {

struct TestCertificate {
  std::string certificate;  // PEM
  std::string key;          // PEM
};

// Makes a certificate authority of its own with a key of its own. Not thread-safe.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name = "test authority");
  ~TestAuthority();
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  struct Request {
    std::string common_name;
    std::vector<std::string> alternatives =
        {};  // "URI:spiffe://a/b", "DNS:localhost", "IP:127.0.0.1"
    // From the real clock's now.
    std::chrono::seconds not_before = std::chrono::hours(-1);
    std::chrono::seconds not_after = std::chrono::hours(24);
  };
  TestCertificate Issue(const Request& request) const;
  // A server's, for localhost and 127.0.0.1.
  TestCertificate IssueServer(const std::string& common_name = "server") const;
  const std::string& certificate() const { return certificate_; }  // PEM

 private:
  struct Secrets;
  std::unique_ptr<Secrets> secrets_;
  std::string certificate_;
};

// Writes a file as a whole: what a reader sees is the old text or the new.
void WriteText(const std::string& path, const std::string& text);

}  // namespace mnemo
