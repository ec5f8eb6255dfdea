# hazard_test.cpp once more, in the ways of compiling that could let a compiler remember what belongs to a thread: at -O2
# and -O3, with link-time optimisation, and with the loops in a shared object of position-independent code.
include(CheckIPOSupported)
check_ipo_supported(RESULT mpg_has_ipo OUTPUT ignored LANGUAGES CXX)

function(mpg_hazard_target name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "OPTIMISE;IPO" "")
    target_include_directories(${name} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
    target_link_libraries(${name} PRIVATE mpg_own)
    target_compile_options(${name} PRIVATE ${arg_OPTIMISE}) # after the build type's, so that it wins
    set_target_properties(${name} PROPERTIES INTERPROCEDURAL_OPTIMIZATION ${arg_IPO})
endfunction()

function(mpg_hazard_test name)
    target_link_libraries(${name} PRIVATE GTest::gtest GTest::gtest_main)
    gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
        PROPERTIES TIMEOUT 240 LABELS "unit;hazard")
    mpg_add_to_labels(${name} unit hazard)
endfunction()

set(ipo OFF)
if(mpg_has_ipo AND NOT MPG_SANITIZE)
    list(APPEND ipo ON)
endif()
foreach(level IN ITEMS O2 O3)
    foreach(with_ipo IN LISTS ipo)
        set(name hazard_${level}_test)
        if(with_ipo)
            set(name hazard_${level}_lto_test)
        endif()
        add_executable(${name} hazard_test.cpp)
        mpg_hazard_target(${name} OPTIMISE -${level} IPO ${with_ipo})
        mpg_hazard_test(${name})
    endforeach()

    add_library(hazard_probe_${level} SHARED hazard_probe.cpp)
    mpg_hazard_target(hazard_probe_${level} OPTIMISE -${level} IPO OFF)
    add_executable(hazard_${level}_shared_test hazard_test.cpp)
    target_compile_definitions(hazard_${level}_shared_test PRIVATE MPG_HAZARD_SHARED)
    mpg_hazard_target(hazard_${level}_shared_test OPTIMISE -${level} IPO OFF)
    target_link_libraries(hazard_${level}_shared_test PRIVATE hazard_probe_${level})
    mpg_hazard_test(hazard_${level}_shared_test)
endforeach()
