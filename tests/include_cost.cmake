# What <mpg/mpg.hpp> costs those who include it, in lines after preprocessing, blank ones not counted. A ratchet: lower
# the limit when the figure has fallen; raise it only with a reason. (docs/decisions.md)
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
