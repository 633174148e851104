// A small HTTP server for pages that are made when they are asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace mnemo {

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  // "sha256-...": the one <style> element that the page may use; empty: none.
  std::string style_hash;
};

// Answers GET and HEAD of the paths that it was given, exactly; everything else
// is 404 or 405. Reads no request body and serves no files. Each answer
// closes its connection and carries a content policy that allows nothing from
// elsewhere, no scripts, and no framing.
//
// Thread-safe. The destructor stops accepting, waits for the answers in
// progress, and gives the port back.
class HttpServer {
 public:
  // Called on the server's threads.
  using Handler = std::function<HttpResponse()>;
  struct Options {
    std::string address;  // IPv4, "127.0.0.1:7071"; port 0: any free one
    int threads = 2;
    int request_timeout_ms = 2000;  // for a client to send its request
  };

  // Errors: kAlreadyExists (the port is in use), kUnavailable (any other
  // reason); the address is named.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const Options& options,
                                                           std::map<std::string, Handler> routes);
  virtual ~HttpServer() = default;

  // As bound, with the real port.
  virtual const std::string& address() const = 0;
};

}  // namespace mnemo
