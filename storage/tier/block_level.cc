#include "storage/tier/block_level.h"

#include <algorithm>

#include "storage/base/status_macros.h"

namespace mnemo {

std::string_view LevelLabel(Level level) {
  switch (level) {
    case Level::kL1:
      return "l1_ram";
    case Level::kL2:
      return "l2_ram";
    case Level::kL3:
      return "l3_disk";
    case Level::kDisk:
      return "archive";
  }
  MNEMO_CHECK(false && "a level that is not one of the four");
}

}  // namespace mnemo
