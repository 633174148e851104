// How the parts of a Kernels table are put together; private to this room.
#pragma once

#include "index/kernels/kernels.h"

namespace mnemo::kernels {

// Fill in the functions of plain C++, which the tests hold the others against.
void FillScalar(Kernels& table);

// Fill in the functions that Highway compiled for one of its targets, which
// must be supported here.
void FillFloat(int64_t target, Kernels& table);
void FillCode(int64_t target, Kernels& table);

}  // namespace mnemo::kernels
