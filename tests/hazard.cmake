# hazard_test.cpp once more with link-time optimisation, which could let a compiler remember what belongs to a thread.
# (With the loops in a shared object, by GCC and by Clang, it is among the consumers.)
include(CheckIPOSupported)
check_ipo_supported(RESULT mpg_has_ipo OUTPUT ignored LANGUAGES CXX)
if(mpg_has_ipo)
    mpg_program(hazard_lto_test hazard_test.cpp)
    target_include_directories(hazard_lto_test PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
    target_link_libraries(hazard_lto_test PRIVATE GTest::gtest GTest::gtest_main)
    target_compile_options(hazard_lto_test PRIVATE -O3) # after the build type's, so that it wins
    set_property(TARGET hazard_lto_test PROPERTY INTERPROCEDURAL_OPTIMIZATION ON)
    target_link_options(hazard_lto_test PRIVATE -Wno-stringop-overflow) # GCC 12 sees one in concurrentqueue
    gtest_discover_tests(hazard_lto_test TEST_PREFIX lto. DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
        PROPERTIES TIMEOUT 240 LABELS hazard)
    mpg_add_to_labels(hazard_lto_test hazard)
endif()
