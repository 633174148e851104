# How a room becomes a target. Warnings are errors; clang checks the locks.

add_library(mnemo_options INTERFACE)
target_include_directories(mnemo_options INTERFACE "${PROJECT_SOURCE_DIR}")
target_compile_options(mnemo_options INTERFACE
  -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers
  -fno-omit-frame-pointer
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety -Werror=thread-safety>
  $<$<CXX_COMPILER_ID:GNU>:-Wno-interference-size>)
if(MNEMO_SANITIZE)
  target_compile_options(mnemo_options INTERFACE -fsanitize=${MNEMO_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(mnemo_options INTERFACE -fsanitize=${MNEMO_SANITIZE})
endif()
if(MNEMO_BUILD_FUZZERS)
  target_compile_options(mnemo_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# mnemo_library(NAME DEPS target...): one room, all .cc files of the current
# folder (not below it).
function(mnemo_library name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cc")
  if(NOT sources)
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE mnemo_options ${ARG_DEPS})
    return()
  endif()
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC mnemo_options ${ARG_DEPS})
endfunction()

# mnemo_test(NAME [LABEL label] DEPS target...): one GoogleTest binary of all
# *_test.cc files of the current folder, registered with CTest.
function(mnemo_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc")
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE mnemo_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()

# mnemo_bench(NAME SOURCE file DEPS target...): a benchmark program.
function(mnemo_bench name)
  cmake_parse_arguments(ARG "" "SOURCE" "DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCE})
  target_link_libraries(${name} PRIVATE mnemo_options ${ARG_DEPS})
endfunction()

# mnemo_fuzzer(NAME SOURCE file DEPS target...): a libFuzzer target where the
# build is a fuzzing one; otherwise the same entry point replays its corpus
# folder, tests/fuzz/corpus/NAME, as a test.
function(mnemo_fuzzer name)
  cmake_parse_arguments(ARG "" "SOURCE" "DEPS" ${ARGN})
  if(MNEMO_BUILD_FUZZERS)
    add_executable(${name} ${ARG_SOURCE})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${name} ${ARG_SOURCE} "${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cc")
    add_test(NAME ${name} COMMAND ${name} "${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name}")
    set_tests_properties(${name} PROPERTIES LABELS fuzz)
  endif()
  target_link_libraries(${name} PRIVATE mnemo_options ${ARG_DEPS})
endfunction()
