# cmake -DCHECK=<check_rooms.cmake> -DROOM=<scratch folder> -P check_rooms_test.cmake
# Each tree with one offence must fail the check, with the message that names it; the sound one must pass.
cmake_minimum_required(VERSION 3.25)

function(expect_tree name expected)
    set(root "${ROOM}/${name}")
    file(REMOVE_RECURSE "${root}")
    while(ARGN)
        list(POP_FRONT ARGN path text)
        file(WRITE "${root}/include/mpg/${path}" "#pragma once\n${text}\n")
    endwhile()
    execute_process(COMMAND ${CMAKE_COMMAND} "-DROOT=${root}" -P "${CHECK}"
        RESULT_VARIABLE result ERROR_VARIABLE output)
    if(expected STREQUAL "sound")
        if(NOT result EQUAL 0)
            message(FATAL_ERROR "${name}: the sound tree was rejected:\n${output}")
        endif()
    elseif(result EQUAL 0 OR NOT output MATCHES "${expected}")
        message(FATAL_ERROR "${name}: expected '${expected}', got ${result}:\n${output}")
    endif()
endfunction()

expect_tree(sound sound
    base/a.hpp "#include <vector>"
    chan/b.hpp "#include <mpg/base/a.hpp>\n#include <mpg/chan/detail/c.hpp>"
    chan/detail/c.hpp "#include <mpg/base/a.hpp>"
    chan.hpp "#include <mpg/chan/b.hpp>\n#include <mpg/base.hpp>")
expect_tree(upwards "chan stands below base"
    base/a.hpp "#include <mpg/chan/b.hpp>")
expect_tree(with_spaces "io stands below sched"
    sched/a.hpp "#  include <mpg/io/b.hpp>")
expect_tree(detail "detail/ is private to chan"
    sched/a.hpp "" net/b.hpp "#include <mpg/chan/detail/c.hpp>")
expect_tree(door_detail "detail/ is private to chan"
    chan.hpp "#include <mpg/chan/detail/c.hpp>")
expect_tree(door "a room does not include doors"
    net/a.hpp "#include <mpg/chan.hpp>")
expect_tree(quoted "write <mpg/room/file.hpp>"
    net/a.hpp "#include \"b.hpp\"")
expect_tree(unknown_room "no room is called cellar"
    cellar/a.hpp "")
