#include "tests/support/temp_dir.h"

#include <cstdlib>

#include "storage/base/status_macros.h"

namespace mnemo {

TempDir::TempDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "mnemo_test_XXXXXX").string();
  MNEMO_CHECK(mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace mnemo
