# Lets `project()` build against ROS 2 from PyPI wheels, where the venv is the ROS prefix.
# Injected from outside, so that the package itself stays what a ROS machine expects:
#   cmake -DCMAKE_PROJECT_INCLUDE=<checkout>/cmake/wheels.cmake -DPython3_EXECUTABLE=<venv>/bin/python
# Knows the wheels' defects; to be deleted on the day they are gone.

if(NOT Python3_EXECUTABLE)
  message(FATAL_ERROR "cmake/wheels.cmake needs -DPython3_EXECUTABLE=<venv>/bin/python")
endif()

# The path is not resolved: bin/python is a link out of the venv, and the venv is what we want.
get_filename_component(_wheels_bin "${Python3_EXECUTABLE}" DIRECTORY)
get_filename_component(_wheels_prefix "${_wheels_bin}" DIRECTORY)
list(PREPEND CMAKE_PREFIX_PATH "${_wheels_prefix}")
set(ENV{AMENT_PREFIX_PATH} "${_wheels_prefix}")
# The generators call their helpers by name.
set(ENV{PATH} "${_wheels_bin}:$ENV{PATH}")

# Many message wheels export the include directory of the machine that built them
# (/opt/python/...). CMake refuses a directory that does not exist; nobody needs these.
function(_wheels_drop_absent_includes)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
      continue()
    endif()
    set(present "")
    foreach(directory IN LISTS directories)
      if(directory MATCHES "^\\$<" OR EXISTS "${directory}")
        list(APPEND present "${directory}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${present}")
  endforeach()
endfunction()
cmake_language(DEFER CALL _wheels_drop_absent_includes)
