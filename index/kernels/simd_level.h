// SimdLevel, which storage and index share, by its old name.
#pragma once

#include "storage/base/simd_level.h"
