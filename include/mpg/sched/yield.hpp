// yield: let others run.
#pragma once

#include <mpg/sched/unwind.hpp>

namespace mpg {

namespace sched {

/// Yield, from anywhere.
MPG_NOINLINE inline void yield_anyhow(machine* m) {
    if (!m || !m->cur || m->cur->is_thread() || m->cur->blocking != 0) {
        ::sched_yield();
        return;
    }
    suspension_point(m);
    yield_now(m);
    suspension_point();
}

} // namespace sched

/// This task goes to the back of the queue. May suspend; while the runtime stops it throws unwound. On a plain thread:
/// std::this_thread::yield. 10 to 20 ns when another task is there.
MPG_NOINLINE inline void yield() {
    sched::machine* m = sched::this_machine();
    if (m && sched::yield_to_ring(m)) [[likely]] {
        // A stop raises the attention of all Ps.
        if (const sched::processor* p = m->p; !p || p->attention.load(std::memory_order_relaxed) != 0) [[unlikely]]
            sched::suspension_point(m);
        return;
    }
    sched::yield_anyhow(m);
}

} // namespace mpg
