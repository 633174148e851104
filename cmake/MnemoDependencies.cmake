# Every library that mnemo links, all of them Debian 12 packages.
find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC REQUIRED CONFIG)
find_package(RocksDB REQUIRED CONFIG)
find_package(OpenSSL REQUIRED)
find_package(ZLIB REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(prometheus-cpp REQUIRED CONFIG)
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
# Not `zstd`: RocksDB looks for zstd_INCLUDE_DIRS, which pkg-config leaves empty.
pkg_check_modules(libzstd REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(jemalloc REQUIRED IMPORTED_TARGET jemalloc)

find_package(hwy REQUIRED CONFIG)

# FAISS is one static library without a CMake file; what it needs comes first.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # Debian's FAISS and OpenBLAS are built over gcc's OpenMP. clang's own beside it
  # would be a second pool of threads in one process, so it links gcc's as well.
  add_library(OpenMP::OpenMP_CXX INTERFACE IMPORTED)
  target_link_libraries(OpenMP::OpenMP_CXX INTERFACE gomp)
else()
  find_package(OpenMP REQUIRED)
endif()
find_package(BLAS REQUIRED)
find_package(LAPACK REQUIRED)
find_path(FAISS_INCLUDE_DIR faiss/Index.h REQUIRED)
find_library(FAISS_LIBRARY faiss REQUIRED)
add_library(faiss INTERFACE IMPORTED)
target_include_directories(faiss INTERFACE "${FAISS_INCLUDE_DIR}")
target_link_libraries(faiss INTERFACE
  "${FAISS_LIBRARY}" OpenMP::OpenMP_CXX LAPACK::LAPACK BLAS::BLAS)

# civetweb's Debian package ships neither a CMake nor a pkg-config file.
find_path(CIVETWEB_INCLUDE_DIR civetweb.h REQUIRED)
find_library(CIVETWEB_LIBRARY civetweb REQUIRED)
add_library(civetweb INTERFACE IMPORTED)
target_include_directories(civetweb INTERFACE "${CIVETWEB_INCLUDE_DIR}")
target_link_libraries(civetweb INTERFACE "${CIVETWEB_LIBRARY}")

if(MNEMO_BUILD_TESTS)
  find_package(GTest REQUIRED)
  find_package(benchmark REQUIRED)
endif()
