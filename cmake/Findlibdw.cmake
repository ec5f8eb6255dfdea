# Finds elfutils' libdw and, for static programs, what it stands on. Optional: with it <mpg/debug.hpp> knows functions,
# files and lines; without it addresses.
#
#   libdw::libdw   the target. Nothing is linked into programs that do not use it (--as-needed).
#   libdw_FOUND
find_path(libdw_INCLUDE_DIR elfutils/libdwfl.h)
find_library(libdw_LIBRARY dw)
mark_as_advanced(libdw_INCLUDE_DIR libdw_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(libdw REQUIRED_VARS libdw_LIBRARY libdw_INCLUDE_DIR
    REASON_FAILURE_MESSAGE "Debian and Ubuntu: apt-get install libdw-dev")

if(libdw_FOUND AND NOT TARGET libdw::libdw)
    set(_libdw_flags "-Wl,--push-state,--as-needed,-ldw")
    foreach(_libdw_below IN ITEMS elf lzma bz2 z)
        find_library(libdw_${_libdw_below}_LIBRARY ${_libdw_below})
        mark_as_advanced(libdw_${_libdw_below}_LIBRARY)
        if(libdw_${_libdw_below}_LIBRARY)
            string(APPEND _libdw_flags ",-l${_libdw_below}")
        endif()
    endforeach()
    cmake_path(GET libdw_LIBRARY PARENT_PATH _libdw_dir)
    add_library(libdw::libdw INTERFACE IMPORTED)
    set_target_properties(libdw::libdw PROPERTIES
        INTERFACE_INCLUDE_DIRECTORIES "${libdw_INCLUDE_DIR}"
        INTERFACE_COMPILE_DEFINITIONS MPG_HAVE_LIBDW=1
        INTERFACE_LINK_DIRECTORIES "${_libdw_dir}"
        INTERFACE_LINK_LIBRARIES "${_libdw_flags},--pop-state")
    unset(_libdw_flags)
    unset(_libdw_dir)
endif()
