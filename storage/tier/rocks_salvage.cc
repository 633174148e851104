#include "storage/tier/rocks_salvage.h"

#include <fmt/format.h>
#include <rocksdb/env.h>
#include <rocksdb/ldb_tool.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/utilities/ldb_cmd.h>

#include <memory>
#include <string_view>

#include "storage/base/status_macros.h"
#include "storage/tier/rocks_db.h"
#include "storage/tier/rocks_file_system.h"
#include "storage/tier/rocks_options.h"
#include "storage/tier/rocks_status.h"

namespace mnemo {
namespace {

constexpr std::string_view kTableSuffix = ".sst";

class Salvage {
 public:
  Salvage(const InstanceOptions& options, FileSystem& files, const Clock& clock,
          const TierResources& resources)
      : folder_(RocksDb::FilesPath(options)),
        files_(files),
        env_(rocksdb::NewCompositeEnv(
            std::make_shared<RocksFileSystem>(files, clock, options.on_wal_sync))),
        options_(MakeDbOptions(options, RocksDb::Recovery::kPointInTime, resources),
                 MakeFamilies(options, resources).front().options) {
    options_.env = env_.get();
    // Reading goes past tables that do not open.
    options_.paranoid_checks = false;
  }

  absl::StatusOr<std::vector<std::string>> Run() {
    std::vector<std::string> dropped;
    MNEMO_ASSIGN_OR_RETURN(const std::vector<FileSystem::Entry> entries, files_.List(folder_));
    for (const FileSystem::Entry& entry : entries) {
      if (entry.is_directory || !entry.name.ends_with(kTableSuffix)) continue;
      MNEMO_ASSIGN_OR_RETURN(const bool whole, IsWhole(folder_ + "/" + entry.name));
      if (whole) continue;
      MNEMO_ASSIGN_OR_RETURN(const bool known, TakeOut(entry.name));
      if (known) dropped.push_back(entry.name);
    }
    return dropped;
  }

 private:
  // Errors: I/O; whatever else is wrong is damage.
  absl::StatusOr<bool> IsWhole(const std::string& path) const {
    rocksdb::SstFileReader reader(options_);
    rocksdb::Status status = reader.Open(path);
    if (status.ok()) status = reader.VerifyChecksum(rocksdb::ReadOptions());
    if (status.IsIOError()) return FromRocks(status, path);
    return status.ok();
  }

  // False: a leftover that the manifest does not name.
  absl::StatusOr<bool> TakeOut(std::string_view name) const {
    const std::string number(name.substr(0, name.size() - kTableSuffix.size()));
    const std::vector<std::string> arguments = {"--db=" + folder_, "unsafe_remove_sst_file",
                                                number};
    const std::unique_ptr<rocksdb::LDBCommand> command(rocksdb::LDBCommand::InitFromCmdLineArgs(
        arguments, options_, rocksdb::LDBOptions(), nullptr));
    if (command == nullptr) return absl::InternalError("rocksdb: no command to remove a table");
    command->Run();
    rocksdb::LDBCommandExecuteResult result = command->GetExecuteState();
    if (!result.IsFailed()) return true;
    if (result.ToString().find("NotFound") != std::string::npos) return false;
    return absl::DataLossError(fmt::format("{}/{}: {}", folder_, name, result.ToString()));
  }

  const std::string folder_;
  FileSystem& files_;
  const std::unique_ptr<rocksdb::Env> env_;
  rocksdb::Options options_;
};

}  // namespace

absl::StatusOr<std::vector<std::string>> DropDamagedTables(const InstanceOptions& options,
                                                           FileSystem& files, const Clock& clock,
                                                           const TierResources& resources) {
  return Salvage(options, files, clock, resources).Run();
}

}  // namespace mnemo
