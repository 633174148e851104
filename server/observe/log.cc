#include "server/observe/log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>

#include <nlohmann/json.hpp>

namespace mnemo {
namespace {

constexpr std::string_view kNames[] = {"debug", "info", "warning", "error"};

std::string_view NameOf(LogLevel level) { return kNames[static_cast<size_t>(level)]; }

std::string FormatTime(WallTime time) {
  const int64_t seconds = time.nanos / 1'000'000'000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(seconds)),
                     time.nanos / 1'000'000 % 1000);
}

// As a JSON string, which is a quoted string in text form, too. Bytes that are
// not UTF-8 become U+FFFD.
std::string Quote(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool NeedsQuotes(const std::string& text) {
  if (text.empty()) return true;
  for (const unsigned char c : text) {
    if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\') return true;
  }
  return false;
}

std::string WriteValue(const LogField::Value& value, bool json) {
  return std::visit(
      [json](const auto& v) -> std::string {
        using Value = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<Value, std::string>) {
          return json || NeedsQuotes(v) ? Quote(v) : v;
        } else if constexpr (std::is_same_v<Value, double>) {
          return nlohmann::json(v).dump();  // null if it is not finite
        } else {
          return fmt::format("{}", v);
        }
      },
      value);
}

}  // namespace

Logger::Logger(const Options& options, Clock& clock, std::ostream& out)
    : options_(options),
      clock_(clock),
      // The sink locks; spdlog wants a shared_ptr of it.
      logger_(std::make_unique<spdlog::logger>(
          "mnemod", std::make_shared<spdlog::sinks::ostream_sink_mt>(out, /*force_flush=*/true))) {
  logger_->set_pattern("%v");
  logger_->set_level(spdlog::level::trace);
}

Logger::~Logger() = default;

void Logger::Write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  if (level < options_.level) return;
  const std::string time = FormatTime(clock_.Wall());
  std::string line;
  if (options_.json) {
    line = fmt::format(R"({{"time":"{}","level":"{}","event":{})", time, NameOf(level),
                       Quote(std::string(event)));
    for (const LogField& field : fields) {
      line += fmt::format(",{}:{}", Quote(std::string(field.key)), WriteValue(field.value, true));
    }
    line += "}";
  } else {
    line = fmt::format("time={} level={} event={}", time, NameOf(level), event);
    for (const LogField& field : fields) {
      line += fmt::format(" {}={}", field.key, WriteValue(field.value, false));
    }
  }
  logger_->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

LogLevel ParseLogLevel(std::string_view text) {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (kNames[i] == text) return static_cast<LogLevel>(i);
  }
  return LogLevel::kInfo;
}

}  // namespace mnemo
