// Half-precision floats, which storage and index share, by their old name.
#pragma once

#include "storage/base/half.h"
