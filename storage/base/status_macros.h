// Early return on errors, and the check for our own invariants.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define MNEMO_CONCAT_INNER(a, b) a##b
#define MNEMO_CONCAT(a, b) MNEMO_CONCAT_INNER(a, b)

// Returns from the enclosing function with the error of `expr`, if it is one.
#define MNEMO_RETURN_IF_ERROR(expr)                                  \
  do {                                                               \
    if (::absl::Status mnemo_status = (expr); !mnemo_status.ok()) {  \
      return mnemo_status;                                           \
    }                                                                \
  } while (false)

// Declares `lhs` and moves the value of the StatusOr `expr` into it, or
// returns its error from the enclosing function.
#define MNEMO_ASSIGN_OR_RETURN(lhs, expr) \
  MNEMO_ASSIGN_OR_RETURN_INNER(MNEMO_CONCAT(mnemo_status_or_, __LINE__), lhs, expr)
#define MNEMO_ASSIGN_OR_RETURN_INNER(tmp, lhs, expr) \
  auto tmp = (expr);                                 \
  if (!tmp.ok()) return std::move(tmp).status();     \
  lhs = *std::move(tmp)

// Ends the process when an invariant of our own memory is broken. Never for
// input, files or the environment: those get a Status.
#define MNEMO_CHECK(condition)                                                          \
  do {                                                                                  \
    if (!(condition)) [[unlikely]] {                                                    \
      std::fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                     \
    }                                                                                   \
  } while (false)
