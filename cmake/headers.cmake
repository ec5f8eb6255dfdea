# Every header of mpg. Written by scripts/update-headers; the test package.header_list compares it with the tree.
set(MPG_HEADERS
    include/mpg/base/atomic.hpp
    include/mpg/base/clock.hpp
    include/mpg/base/config.hpp
    include/mpg/base/error.hpp
    include/mpg/base/intrusive_list.hpp
    include/mpg/base/random.hpp
    include/mpg/base/spinlock.hpp
    include/mpg/fiber/context.hpp
    include/mpg/fiber/execution.hpp
    include/mpg/sched/cancel.hpp
    include/mpg/sched/poller.hpp
    include/mpg/sched/timer.hpp
    include/mpg/sched/wait.hpp
    include/mpg/sched/wait_reason.hpp
)
