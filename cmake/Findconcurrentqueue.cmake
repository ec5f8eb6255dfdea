# Finds moodycamel's ConcurrentQueue: by its own CMake package where there is one (vcpkg, upstream's install), else by
# its header, which lies in three places:
#   concurrentqueue/concurrentqueue.h (Debian), concurrentqueue/moodycamel/concurrentqueue.h (upstream), concurrentqueue.h
#
#   concurrentqueue::concurrentqueue   the target; mpg includes the header through mpg/sched/global_queue.hpp, which
#                                      knows the three spellings
#   concurrentqueue_FOUND, concurrentqueue_INCLUDE_DIR
include(FindPackageHandleStandardArgs)

if(NOT TARGET concurrentqueue::concurrentqueue)
    find_package(concurrentqueue CONFIG QUIET)
endif()
if(TARGET concurrentqueue::concurrentqueue)
    set(concurrentqueue_FOUND TRUE)
    return()
endif()

find_path(concurrentqueue_INCLUDE_DIR
    NAMES concurrentqueue/concurrentqueue.h concurrentqueue/moodycamel/concurrentqueue.h concurrentqueue.h)
mark_as_advanced(concurrentqueue_INCLUDE_DIR)
find_package_handle_standard_args(concurrentqueue REQUIRED_VARS concurrentqueue_INCLUDE_DIR
    REASON_FAILURE_MESSAGE "Debian and Ubuntu: apt-get install libconcurrentqueue-dev")

if(concurrentqueue_FOUND)
    add_library(concurrentqueue::concurrentqueue INTERFACE IMPORTED)
    set_target_properties(concurrentqueue::concurrentqueue PROPERTIES
        INTERFACE_INCLUDE_DIRECTORIES "${concurrentqueue_INCLUDE_DIR}")
endif()
