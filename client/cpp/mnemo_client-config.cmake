# find_package(mnemo_client) gives the target mnemo::client.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
find_dependency(absl)
find_dependency(Protobuf)
find_dependency(gRPC CONFIG)
find_dependency(fmt)
find_dependency(OpenSSL)
include("${CMAKE_CURRENT_LIST_DIR}/mnemo_client-targets.cmake")
