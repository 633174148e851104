// The log: one line a change of state, never payloads or keys.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "storage/base/clock.h"

namespace spdlog {
class logger;
}

namespace mnemo {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

// key=value; a number stays a number in JSON.
struct LogField {
  using Value = std::variant<bool, int64_t, uint64_t, double, std::string>;

  LogField(std::string_view name, bool v) : key(name), value(v) {}
  LogField(std::string_view name, const char* v) : key(name), value(std::string(v)) {}
  LogField(std::string_view name, std::string v) : key(name), value(std::move(v)) {}
  LogField(std::string_view name, std::string_view v) : key(name), value(std::string(v)) {}
  template <typename Number, typename = std::enable_if_t<std::is_arithmetic_v<Number>>>
  LogField(std::string_view name, Number v) : key(name) {
    if constexpr (std::is_floating_point_v<Number>) {
      value = static_cast<double>(v);
    } else if constexpr (std::is_signed_v<Number>) {
      value = static_cast<int64_t>(v);
    } else {
      value = static_cast<uint64_t>(v);
    }
  }

  std::string_view key;  // a literal
  Value value;
};

// Writes lines such as
//   time=2026-01-31T12:00:00.000Z level=info event=ready grpc=127.0.0.1:7070
// or the same as JSON objects. A value never breaks its line: control
// characters and quotes are escaped, and bytes that are not UTF-8 replaced.
// Thread-safe. Lines below the level cost one comparison.
class Logger {
 public:
  struct Options {
    LogLevel level = LogLevel::kInfo;
    bool json = false;
  };
  // Writes to `out`, which outlives the logger, and flushes each line.
  Logger(const Options& options, Clock& clock, std::ostream& out);
  ~Logger();
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  // `event` is a literal such as "ready", in the words of docs/operations.md.
  void Debug(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kDebug, event, fields);
  }
  void Info(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kInfo, event, fields);
  }
  void Warning(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kWarning, event, fields);
  }
  void Error(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kError, event, fields);
  }

 private:
  void Write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields);

  const Options options_;
  Clock& clock_;
  const std::unique_ptr<spdlog::logger> logger_;
};

// "debug", "info", "warning", "error"; anything else is info.
LogLevel ParseLogLevel(std::string_view text);

}  // namespace mnemo
