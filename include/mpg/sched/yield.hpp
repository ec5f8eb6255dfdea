// yield: let others run.
#pragma once

#include <mpg/sched/unwind.hpp>

namespace mpg {

/// This task goes to the back of the queue. May suspend; while the runtime stops it throws unwound. On a plain thread:
/// std::this_thread::yield. About 10 ns when another task is there.
inline void yield() {
    using sched::machine, sched::this_machine, sched::suspension_point;
    machine* m = this_machine();
    if (!m || !m->cur || m->cur->is_thread() || m->cur->blocking != 0) {
        ::sched_yield();
        return;
    }
    suspension_point(m);
    sched::yield_now(m);
    suspension_point();
}

} // namespace mpg
