#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "server/observe/node_figures.h"

namespace mnemo {
namespace {

uint64_t ReadResident() {
  uint64_t bytes = 0;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t kilobytes = 0;
    // Not RssShmem: memory of clients that is mapped here is theirs.
    if (words >> name >> kilobytes && (name == "RssAnon:" || name == "RssFile:")) {
      bytes += kilobytes * 1024;
    }
  }
  return bytes;
}

}  // namespace

ProcessFigures ReadProcess() {
  ProcessFigures figures;
  figures.resident_bytes = ReadResident();
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    figures.cpu_seconds =
        static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
        static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) figures.max_files = limit.rlim_cur;
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc/self/fd", error), end;
       !error && entry != end; entry.increment(error)) {
    ++figures.open_files;
  }
  return figures;
}

}  // namespace mnemo
