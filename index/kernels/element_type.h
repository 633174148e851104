// ElementType and Metric, which storage and index share, by their old name.
#pragma once

#include "storage/base/element_type.h"
