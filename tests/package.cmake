# The tests of the house rather than of the code: style, headers, package, consumers, README.
find_program(MPG_CLANG NAMES clang++-19 clang++)
set(compilers "${CMAKE_CXX_COMPILER}")
cmake_path(GET CMAKE_CXX_COMPILER FILENAME compiler_name)
if(MPG_CLANG AND NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    list(APPEND compilers "${MPG_CLANG}")
endif()
set(scratch "${CMAKE_CURRENT_BINARY_DIR}/package")

# A test that configures, builds and runs another project: build_test(NAME SOURCE TARGET LABEL [options of CMake...])
function(build_test name source target label)
    foreach(compiler IN LISTS compilers)
        cmake_path(GET compiler FILENAME short)
        set(run)
        if(label STREQUAL "consumer")
            set(run --test-command "${scratch}/${name}.${short}/${target}")
        endif()
        add_test(NAME ${label}.${name}.${short}
            COMMAND ${CMAKE_CTEST_COMMAND} --build-and-test "${source}" "${scratch}/${name}.${short}"
                --build-generator ${CMAKE_GENERATOR} --build-makeprogram ${CMAKE_MAKE_PROGRAM}
                --build-target ${target} --build-noclean
                --build-options -DCMAKE_CXX_COMPILER=${compiler}
                    -DCMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER} ${ARGN}
                ${run})
        set_tests_properties(${label}.${name}.${short} PROPERTIES LABELS ${label} TIMEOUT 900)
        if(label STREQUAL "consumer")
            set_tests_properties(${label}.${name}.${short} PROPERTIES FIXTURES_REQUIRED "installed;readme")
        endif()
    endforeach()
endfunction()

# --- style and headers

add_test(NAME style.rooms
    COMMAND ${CMAKE_COMMAND} "-DROOT=${PROJECT_SOURCE_DIR}" -P "${PROJECT_SOURCE_DIR}/cmake/check_rooms.cmake")
add_test(NAME style.rooms_check_finds_offences
    COMMAND ${CMAKE_COMMAND} "-DCHECK=${PROJECT_SOURCE_DIR}/cmake/check_rooms.cmake" "-DROOM=${scratch}/rooms"
        -P "${CMAKE_CURRENT_SOURCE_DIR}/check_rooms_test.cmake")
add_test(NAME style.manifests COMMAND ${CMAKE_COMMAND} "-DSOURCE=${PROJECT_SOURCE_DIR}" "-DVERSION=${PROJECT_VERSION}"
    -P "${CMAKE_CURRENT_SOURCE_DIR}/manifests.cmake")
add_test(NAME style.header_list COMMAND "${PROJECT_SOURCE_DIR}/scripts/update-headers" --check)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13) # its library is what is counted
    add_test(NAME style.include_cost COMMAND ${CMAKE_COMMAND} "-DCXX=${CMAKE_CXX_COMPILER}" "-DROOT=${PROJECT_SOURCE_DIR}"
        "-DSCRATCH=${CMAKE_CURRENT_BINARY_DIR}" -DLIMIT=82000 -P "${CMAKE_CURRENT_SOURCE_DIR}/include_cost.cmake")
    set_tests_properties(style.include_cost PROPERTIES LABELS style)
endif()
set_tests_properties(style.rooms style.rooms_check_finds_offences style.header_list style.manifests PROPERTIES LABELS style)

# Each header in a translation unit of its own, with our warnings. By one compiler: Clang sees them, in company, in the
# consumers and in the sanitizer builds, and this takes four minutes.
set(both "${compilers}")
set(compilers "${CMAKE_CXX_COMPILER}")
build_test(each_alone "${PROJECT_SOURCE_DIR}" all_verify_interface_header_sets headers
    "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Werror"
    -DMPG_BUILD_TESTS=OFF -DMPG_BUILD_EXAMPLES=OFF -DMPG_BUILD_BENCHMARKS=OFF)
set(compilers "${both}")

# --- the installed package, moved to another place after its installation

add_test(NAME package.install
    COMMAND ${CMAKE_COMMAND} "-DBUILD=${PROJECT_BINARY_DIR}" "-DSOURCE=${PROJECT_SOURCE_DIR}"
        "-DFIRST=${scratch}/installed_here" "-DMOVED=${scratch}/moved"
        -P "${CMAKE_CURRENT_SOURCE_DIR}/install_and_move.cmake")
set_tests_properties(package.install PROPERTIES LABELS package FIXTURES_SETUP installed)

set(all_doors "// Every public header of mpg.\n#pragma once\n\n")
file(GLOB doors RELATIVE "${PROJECT_SOURCE_DIR}/include" CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/include/mpg/*.hpp")
list(REMOVE_ITEM doors mpg/tls.hpp) # of a component of its own
foreach(door IN LISTS doors)
    string(APPEND all_doors "#include <${door}>\n")
endforeach()
file(CONFIGURE OUTPUT "${scratch}/doors/all_doors.hpp" CONTENT "${all_doors}" @ONLY)

# --- its users

math(EXPR other_minor "${PROJECT_VERSION_MINOR} + 1")
set(consumers "${CMAKE_CURRENT_SOURCE_DIR}/consumers")
build_test(installed "${consumers}/installed" consumer consumer
    "-DCMAKE_PREFIX_PATH=${scratch}/moved" "-DMPG_PREFIX=${scratch}/moved" "-DMPG_ALL_DOORS=${scratch}/doors"
    -DMPG_VERSION=${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    -DMPG_OTHER_MINOR=${PROJECT_VERSION_MAJOR}.${other_minor})
build_test(subdirectory "${consumers}/subdirectory" consumer consumer
    "-DMPG_SOURCE=${PROJECT_SOURCE_DIR}" "-DMPG_ALL_DOORS=${scratch}/doors")
build_test(fetch_content "${consumers}/fetch_content" consumer consumer
    "-DMPG_SOURCE=${PROJECT_SOURCE_DIR}" "-DMPG_ALL_DOORS=${scratch}/doors")
build_test(shared_objects "${consumers}/shared_objects" consumer consumer
    "-DCMAKE_PREFIX_PATH=${scratch}/moved")
build_test(hazards "${consumers}/hazards" consumer consumer
    "-DCMAKE_PREFIX_PATH=${scratch}/moved" "-DMPG_TESTS=${CMAKE_CURRENT_SOURCE_DIR}")
build_test(strict "${consumers}/strict" consumer consumer "-DCMAKE_PREFIX_PATH=${scratch}/moved")
build_test(tls "${consumers}/tls" consumer consumer "-DCMAKE_PREFIX_PATH=${scratch}/moved")
build_test(tls_subdirectory "${consumers}/tls" consumer consumer "-DMPG_SOURCE=${PROJECT_SOURCE_DIR}")

# The README's first example, as a reader types it: its files are cut from the page.
add_test(NAME readme.extract
    COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/extract_readme" "${PROJECT_SOURCE_DIR}/README.md" "${scratch}/readme")
set_tests_properties(readme.extract PROPERTIES LABELS consumer FIXTURES_SETUP readme)
build_test(readme "${scratch}/readme" first consumer "-DCMAKE_PREFIX_PATH=${scratch}/moved")
set_tests_properties(consumer.readme.${compiler_name} PROPERTIES PASS_REGULAR_EXPRESSION "\n1\n2\n3\n")
