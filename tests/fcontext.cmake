# What lies closest to the switch once more with Boost.Context's instead of our own: what survives it, and what a dump finds
# on a stack that it has left. (On other CPUs than x86-64 it is the only one.)
foreach(name IN ITEMS hazard debug_fallback)
    set(program ${name}_fcontext_test)
    mpg_program(${program} ${name}_test.cpp)
    target_include_directories(${program} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
    target_compile_definitions(${program} PRIVATE MPG_USE_FCONTEXT)
    target_compile_options(${program} PRIVATE -UMPG_HAVE_LIBDW)
    target_link_libraries(${program} PRIVATE GTest::gtest GTest::gtest_main)
    gtest_discover_tests(${program} TEST_PREFIX fcontext. DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
        PROPERTIES TIMEOUT 240 LABELS hazard)
    mpg_add_to_labels(${program} hazard)
endforeach()
