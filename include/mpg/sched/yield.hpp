// yield: let others run.
#pragma once

#include <mpg/sched/unwind.hpp>

namespace mpg {

/// This task goes to the back of the queue. May suspend; while the runtime stops it throws unwound. On a plain thread:
/// std::this_thread::yield. About 10 ns when another task is there.
inline void yield() {
    using sched::machine, sched::this_machine, sched::suspension_point;
    machine* m = this_machine();
    if (!m || !m->cur || m->cur->is_thread() || !m->p) {
        ::sched_yield();
        return;
    }
    suspension_point();
    sched::task* t = m->cur;
    t->set_state(sched::task_state::runnable);
    sched::switch_away(
        m, t, [](void* arg) noexcept {
            auto* self = static_cast<sched::task*>(arg);
            if (machine* here = this_machine(); here->p) [[likely]]
                sched::push_ring(*here->p, self);
            else // a locked machine has given its P away already
                sched::inject(*self->rt, self);
        },
        t);
    suspension_point();
}

} // namespace mpg
