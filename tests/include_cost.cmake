# What mpg costs those who include it. (docs/decisions.md)
#
# <mpg/mpg.hpp> in lines after preprocessing, blank ones not counted. A ratchet: lower the limit when the figure has
# fallen; raise it only with a reason.
execute_process(COMMAND ${CXX} -std=gnu++20 -E -P "-I${ROOT}/include" "${ROOT}/include/mpg/mpg.hpp"
    OUTPUT_VARIABLE text RESULT_VARIABLE status ERROR_VARIABLE complaints)
if(status)
    message(FATAL_ERROR "${complaints}")
endif()
string(REGEX REPLACE "[^\n]" "" newlines "${text}")
string(LENGTH "${newlines}" lines)
message("<mpg/mpg.hpp>: ${lines} lines, at most ${LIMIT}")
if(lines GREATER LIMIT)
    message(FATAL_ERROR "<mpg/mpg.hpp> has grown: ${lines} lines after preprocessing")
endif()

# Code for what a source uses, not for what it includes: that which starts no runtime is not compiled with one. (The
# usual faults: a variable that is initialised at run time, and a virtual function that is inline, but not said to be in
# the class, so that the compiler takes it for the key function and emits the table.)
foreach(header mpg io net signal)
    execute_process(COMMAND ${CXX} -std=gnu++20 -O0 "-I${ROOT}/include" -include "mpg/${header}.hpp" -x c++ -c /dev/null
        -o "${SCRATCH}/${header}.o" RESULT_VARIABLE status ERROR_VARIABLE complaints)
    if(status)
        message(FATAL_ERROR "${complaints}")
    endif()
    execute_process(COMMAND nm --demangle "${SCRATCH}/${header}.o" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL " [TtWwVv] [^\n]*mpg::[^\n]*" emitted "${symbols}")
    list(LENGTH emitted count)
    message("<mpg/${header}.hpp>: ${count} functions emitted")
    if(count)
        list(SUBLIST emitted 0 5 some)
        message(FATAL_ERROR "<mpg/${header}.hpp> alone emits code: ${some}")
    endif()
endforeach()
