# cmake -DBUILD= -DSOURCE= -DFIRST= -DMOVED= -P install_and_move.cmake
# Installs the build into FIRST, moves that to MOVED, and fails when an installed file names a place of this machine or
# a header is missing.
cmake_minimum_required(VERSION 3.25)
file(REMOVE_RECURSE "${FIRST}" "${MOVED}")
execute_process(COMMAND ${CMAKE_COMMAND} --install "${BUILD}" --prefix "${FIRST}"
    OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(RENAME "${FIRST}" "${MOVED}")

file(GLOB_RECURSE installed RELATIVE "${MOVED}" "${MOVED}/*")
foreach(file IN LISTS installed)
    file(READ "${MOVED}/${file}" text)
    foreach(place IN ITEMS "${SOURCE}" "${BUILD}" "${FIRST}" "${MOVED}" "/usr/lib" "/usr/include" "/usr/local")
        string(FIND "${text}" "${place}" at)
        if(NOT at EQUAL -1)
            message(SEND_ERROR "${file} contains the absolute path ${place}")
        endif()
    endforeach()
endforeach()

file(GLOB_RECURSE headers RELATIVE "${SOURCE}" "${SOURCE}/include/mpg/*.hpp")
foreach(file IN LISTS headers ITEMS
        share/cmake/mpg/mpg-config.cmake share/cmake/mpg/mpg-config-version.cmake share/cmake/mpg/mpg-targets.cmake
        share/cmake/mpg/mpg-tls-targets.cmake
        share/cmake/mpg/Findliburing.cmake share/cmake/mpg/Findconcurrentqueue.cmake
        share/cmake/mpg/Findlibdw.cmake share/gdb/auto-load/mpg/mpg.py share/mpg/lldb/mpg.py share/mpg/lldb/mpg_threads.py
        share/mpg/bpftrace/leaks.bt share/mpg/bpftrace/offcpu.bt share/mpg/bpftrace/runqlat.bt
        share/mpg/bpftrace/slices.bt share/mpg/bpftrace/slow.bt share/mpg/bpftrace/steals.bt share/mpg/bpftrace/README.md)
    if(NOT file IN_LIST installed)
        message(SEND_ERROR "${file} is not installed")
    endif()
    list(REMOVE_ITEM installed ${file})
endforeach()
if(installed)
    message(SEND_ERROR "installed, but nobody asked for it: ${installed}")
endif()
