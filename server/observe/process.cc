#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "server/observe/node_figures.h"

namespace mnemo {

ProcessFigures ReadProcess() {
  ProcessFigures figures;
  uint64_t total_pages = 0;
  uint64_t resident_pages = 0;
  std::ifstream memory("/proc/self/statm");
  if (memory >> total_pages >> resident_pages) {
    figures.resident_bytes = resident_pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  }
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
