# How a room becomes a target. Warnings are errors; clang checks the locks.

add_library(mnemo_options INTERFACE)
target_include_directories(mnemo_options INTERFACE "${PROJECT_SOURCE_DIR}")
target_compile_options(mnemo_options INTERFACE
  -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers
  -fno-omit-frame-pointer
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety -Werror=thread-safety>
  $<$<CXX_COMPILER_ID:GNU>:-Wno-interference-size>
  # gcc 12 sees overlaps in std::string that are not there (its bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
if(MNEMO_SANITIZE)
  target_compile_options(mnemo_options INTERFACE -fsanitize=${MNEMO_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(mnemo_options INTERFACE -fsanitize=${MNEMO_SANITIZE})
endif()
# It links a sanitized program in a quarter of the time.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_link_options(mnemo_options INTERFACE -fuse-ld=lld)
endif()

# mnemo_library(NAME DEPS target...): one room, all .cc files of the current
# folder (not below it).
function(mnemo_library name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cc")
  add_library(${name} STATIC ${sources})
  mnemo_unity(${name} ${sources})
  target_link_libraries(${name} PUBLIC mnemo_options ${ARG_DEPS})
  # A fuzzer steers by what it reached in the rooms; nothing is to be gained by
  # counting branches of tests and generated code.
  if(MNEMO_BUILD_FUZZERS)
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()

# What a test's environment says to the sanitizers' runtimes. Suppressions name
# third-party frames only: tests/sanitizers says why for each.
set(MNEMO_TEST_ENVIRONMENT
  "ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:detect_leaks=1"
  "LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/sanitizers/lsan.supp:print_suppressions=0"
  "UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1"
  "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/sanitizers/tsan.supp:halt_on_error=1:second_deadlock_stack=1:print_suppressions=0")
find_program(MNEMO_SYMBOLIZER NAMES llvm-symbolizer-14 llvm-symbolizer)
if(MNEMO_SYMBOLIZER)
  foreach(tool ASAN LSAN UBSAN TSAN)
    list(APPEND MNEMO_TEST_ENVIRONMENT "${tool}_SYMBOLIZER_PATH=${MNEMO_SYMBOLIZER}")
  endforeach()
endif()

# The programs of a sanitizer's full turn, and of the short one in CI.
add_custom_target(sanitizer_tests_full)
add_custom_target(sanitizer_tests_short)
add_custom_target(fuzzers)

# Registers a program as a test with a label. Its cases are reported to
# junit/NAME.xml in the build folder, where tests/run.py counts them.
function(mnemo_register_test name label timeout)
  add_test(NAME ${name} COMMAND ${name} ${ARGN})
  set(labels ${label})
  # What crosses threads inside gRPC is ordered by locks that TSan cannot see, so
  # programs over it are not its to judge.
  get_target_property(libraries ${name} LINK_LIBRARIES)
  if(MNEMO_SANITIZE MATCHES "thread" AND libraries MATCHES "mnemo_(rpc|client|daemon|proto)")
    set(label "grpc")
  endif()
  if(label MATCHES "^(unit|contract|fault|fuzz)$")
    list(APPEND labels sanitizer_full)
    add_dependencies(sanitizer_tests_full ${name})
  endif()
  if(label MATCHES "^(unit|contract)$")
    list(APPEND labels sanitizer_short)
    add_dependencies(sanitizer_tests_short ${name})
  endif()
  # Under a sanitizer and beside other work, a test takes several times as long.
  if(MNEMO_SANITIZE)
    math(EXPR timeout "4 * ${timeout}")
  endif()
  # A case that hangs is told apart before the program's time is up, and only what
  # failed is shown.
  math(EXPR case_seconds "${timeout} / 3")
  set_tests_properties(${name} PROPERTIES
    LABELS "${labels}" TIMEOUT ${timeout}
    ENVIRONMENT "GTEST_BRIEF=1;MNEMO_TEST_CASE_SECONDS=${case_seconds};GTEST_OUTPUT=xml:${PROJECT_BINARY_DIR}/junit/${name}.xml;${MNEMO_TEST_ENVIRONMENT}")
endfunction()

# mnemo_test(NAME [LABEL label] [TIMEOUT seconds] DEPS target...): one GoogleTest
# binary of all *_test.cc files of the current folder, registered with CTest.
# Labels: unit (the default), contract, integration, fault, stress.
function(mnemo_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc")
  if(NOT sources)
    message(WARNING "${name}: no *_test.cc in ${CMAKE_CURRENT_SOURCE_DIR}")
    return()
  endif()
  add_executable(${name} ${sources})
  mnemo_unity(${name} ${sources})
  target_link_libraries(${name} PRIVATE mnemo_options ${ARG_DEPS} mnemo_test_main)
  # Compiling tests takes longer than running them: docs/decisions/0007.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  mnemo_register_test(${name} ${ARG_LABEL} ${ARG_TIMEOUT})
endfunction()

# mnemo_bench(NAME SOURCE file DEPS target...): a benchmark program.
function(mnemo_bench name)
  cmake_parse_arguments(ARG "" "SOURCE" "DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCE})
  target_link_libraries(${name} PRIVATE mnemo_options ${ARG_DEPS})
endfunction()

# mnemo_fuzzer(NAME SOURCE file DEPS target...): an entry point that replays its
# corpus folder, tests/fuzz/corpus/NAME, as a test. Where the build is a fuzzing
# one, it is a libFuzzer program in bin/fuzzers, which can do both.
function(mnemo_fuzzer name)
  cmake_parse_arguments(ARG "" "SOURCE" "DEPS" ${ARGN})
  if(MNEMO_BUILD_FUZZERS)
    add_executable(${name} ${ARG_SOURCE})
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    set_target_properties(${name} PROPERTIES
      RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin/fuzzers")
    add_dependencies(fuzzers ${name})
    set(replay -runs=0)
  else()
    set(replay "")
    add_executable(${name} ${ARG_SOURCE} "${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cc")
  endif()
  target_link_libraries(${name} PRIVATE mnemo_options ${ARG_DEPS})
  mnemo_register_test(${name} fuzz 300 ${replay} "${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name}")
endfunction()
