# How the targets of this repository are compiled. Nothing here reaches a user of mpg::mpg.
set(MPG_SANITIZE "" CACHE STRING "Sanitizer of our own targets: empty, address or thread")
set_property(CACHE MPG_SANITIZE PROPERTY STRINGS "" address thread)
if(NOT MPG_SANITIZE MATCHES "^(address|thread|)$")
    message(FATAL_ERROR "MPG_SANITIZE must be empty, address or thread, not '${MPG_SANITIZE}'")
endif()

add_library(mpg_own INTERFACE)
target_link_libraries(mpg_own INTERFACE mpg::mpg)
target_compile_options(mpg_own INTERFACE
    -Wall -Wextra -Wshadow -Wconversion -Werror)
if(MPG_SANITIZE)
    set(flags -fsanitize=${MPG_SANITIZE} -fno-omit-frame-pointer)
    if(MPG_SANITIZE STREQUAL "address")
        list(APPEND flags -fsanitize=undefined -fno-sanitize-recover=undefined)
    endif()
    target_compile_options(mpg_own INTERFACE ${flags})
    target_link_options(mpg_own INTERFACE ${flags})
endif()

# What programs without shared libraries are linked with: Boost's CMake package offers the shared library where both are installed,
# so the archives are named. Sanitizers need shared libraries.
find_library(MPG_BOOST_CONTEXT_ARCHIVE libboost_context.a)
find_library(MPG_LIBURING_ARCHIVE liburing.a)
mark_as_advanced(MPG_BOOST_CONTEXT_ARCHIVE MPG_LIBURING_ARCHIVE)

# A program without shared libraries, if it can be made: mpg_static_program(NAME SOURCES...)
function(mpg_static_program name)
    if(MPG_SANITIZE)
        return()
    elseif(NOT MPG_BOOST_CONTEXT_ARCHIVE OR NOT MPG_LIBURING_ARCHIVE)
        message(STATUS "${name} is left out: libboost_context.a or liburing.a is missing")
        return()
    endif()
    add_executable(${name} ${ARGN})
    target_compile_features(${name} PRIVATE cxx_std_20)
    target_include_directories(${name} PRIVATE
        "${PROJECT_SOURCE_DIR}/include"
        $<TARGET_PROPERTY:liburing::liburing,INTERFACE_INCLUDE_DIRECTORIES>
        $<TARGET_PROPERTY:concurrentqueue::concurrentqueue,INTERFACE_INCLUDE_DIRECTORIES>)
    target_compile_options(${name} PRIVATE $<TARGET_PROPERTY:mpg_own,INTERFACE_COMPILE_OPTIONS>)
    target_link_libraries(${name} PRIVATE
        "${MPG_BOOST_CONTEXT_ARCHIVE}" "${MPG_LIBURING_ARCHIVE}" Threads::Threads)
    target_link_options(${name} PRIVATE -static)
endfunction()

# A program of ours: mpg_program(NAME SOURCES...)
function(mpg_program name)
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE mpg_own)
endfunction()
