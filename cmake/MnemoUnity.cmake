# Compiles the files of a target together, where a sanitizer's preset asks for
# it: most of a compilation is headers, and these builds are made from nothing
# in CI. docs/decisions/0010 has the figures. The release compiles file by file,
# so that a file which leans on another's includes is still found.
option(MNEMO_UNITY "Compile the files of a target together where they can be" OFF)

# mnemo_unity(TARGET file...): groups the files, by what unity_groups.py says.
function(mnemo_unity target)
  if(NOT MNEMO_UNITY)
    return()
  endif()
  set(script "${PROJECT_SOURCE_DIR}/cmake/unity_groups.py")
  execute_process(COMMAND /usr/bin/python3 "${script}" ${ARGN}
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
    OUTPUT_VARIABLE groups OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  foreach(source group IN ZIP_LISTS ARGN groups)
    set_source_files_properties("${source}" PROPERTIES UNITY_GROUP "${group}")
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  # A name that becomes private may part two files.
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${script}" ${ARGN})
endfunction()
