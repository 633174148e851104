// Leaves a golden data directory for later builds: `make golden NAME=...`.
//
//   make_golden FOLDER
//
// Writes FOLDER/data, the data directory, and FOLDER/expected.json, what it
// holds (golden_record.h). FOLDER must not be there: a golden directory is
// written once, by the release that it stands for.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "storage/base/status_macros.h"
#include "tests/contract/golden/golden_record.h"
#include "tests/contract/golden/golden_scenario.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temp_dir.h"

namespace mnemo {
namespace {

namespace fs = std::filesystem;

// Files that say where and by whom they were written and that nothing needs:
// locks, which are made anew, and the options, which RocksDB writes for people.
bool LeftOut(const fs::path& file) {
  const std::string name = file.filename().string();
  return name == "LOCK" || name.starts_with("LOG") || name.starts_with("OPTIONS-");
}

absl::Status CopyFiles(const fs::path& from, const fs::path& to) {
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(from)) {
    if (!entry.is_regular_file() || LeftOut(entry.path())) continue;
    const fs::path copy = to / entry.path().lexically_relative(from);
    fs::create_directories(copy.parent_path());
    fs::copy_file(entry.path(), copy);
    std::ifstream file(copy, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    if (bytes.find(from.string()) != std::string::npos) {
      return absl::InternalError(copy.string() + " names the folder that it was made in");
    }
  }
  return absl::OkStatus();
}

absl::Status MakeGolden(const fs::path& folder) {
  if (fs::exists(folder)) return absl::AlreadyExistsError(folder.string() + " is there");
  const TempDir work;
  const std::string directory = work / "data";
  const std::unique_ptr<FileSystem> files = MakePosixFileSystem();
  FakeClock clock;
  MNEMO_ASSIGN_OR_RETURN(const GoldenContents contents,
                         WriteGoldenDirectory(directory, *files, clock));
  MNEMO_RETURN_IF_ERROR(CopyFiles(directory, folder / "data"));
  MNEMO_ASSIGN_OR_RETURN(const std::unique_ptr<BlockStore> store,
                         BlockStore::Open(GoldenOptions(directory), *files, clock, nullptr));
  MNEMO_ASSIGN_OR_RETURN(const auto spaces, SpaceRegistry::Load(store->state(), clock));
  nlohmann::ordered_json expected = {{"clock_unix_ns", clock.Wall().nanos}};
  MNEMO_ASSIGN_OR_RETURN(const nlohmann::ordered_json observed,
                         Observe(*store, *spaces, contents.tenants, contents.parts));
  expected.update(observed);
  std::ofstream(folder / "expected.json") << expected.dump(1) << "\n";
  return absl::OkStatus();
}

}  // namespace
}  // namespace mnemo

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_golden FOLDER\n");
    return 2;
  }
  const absl::Status made = mnemo::MakeGolden(argv[1]);
  if (made.ok()) return 0;
  std::fprintf(stderr, "make_golden: %s\n", made.ToString().c_str());
  return 1;
}
