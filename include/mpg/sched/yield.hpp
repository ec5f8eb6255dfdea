// yield: let others run.
#pragma once

#include <mpg/sched/switch.hpp>
#include <mpg/sched/unwind.hpp>

namespace mpg {

namespace sched {

/// What makes a task that yields visible again.
inline void publish_yielded(void* arg) noexcept {
    auto* self = static_cast<task*>(arg);
    if (machine* here = this_machine(); here->p) [[likely]]
        push_ring(*here->p, self);
    else // a locked machine has given its P away already; a surplus one has none
        inject(*self->rt, self);
}

/// To the back of the queue. Called with a machine that has a task. When its P has nothing else to run it returns at
/// once, but for each 61st time, which goes to the scheduler, that looks at the world.
MPG_NOINLINE inline void yield_now(machine* m) noexcept {
    enter_runtime(*m);
    task* t = m->cur;
    task* next = nullptr;
    processor* p = m->p;
    if (p && !m->locked && !p->called() && bump(p->tick) % 61 != 0) [[likely]] {
        next = take_local(*p);
        if (!next && m->rt->global.size() == 0) return leave_runtime(*m);
        if (next) next = startable(m, next);
    }
    t->set_state(task_state::runnable);
    leave_for(m, p, t, next, publish_yielded, t, wait_reason::none);
}

/// The usual cases of yield_now: nobody else is there, or the only P's ring has somebody. False: nothing was done. m becomes
/// the machine where the caller goes on; what this is inlined into is not.
MPG_ALWAYS_INLINE bool yield_to_ring(machine*& m) noexcept {
    enter_runtime(*m);
    processor* p = m->p;
    const std::uint32_t raised = p ? p->attention.load(std::memory_order_relaxed) : 0;
    if (p && !m->locked && (raised & ~attention::recorded) == 0 &&
        !p->runnext.load(std::memory_order_relaxed)) [[likely]] {
        const std::uint32_t tick = p->tick.load(std::memory_order_relaxed) + 1;
        const run_queue::ends ring = p->ring.now();
        if (tick % 61 != 0) [[likely]] {
            if (ring.empty()) {
                if (m->rt->global.size() == 0) {
                    p->tick.store(tick, std::memory_order_relaxed);
                    leave_runtime(*m);
                    return true;
                }
            } else if (p->alone) {
                task *self = m->cur, *next = p->ring.front(ring);
                if (next->ex.ctx.sp && !next->bound) [[likely]] {
                    p->tick.store(tick, std::memory_order_relaxed);
                    bump(p->slices);
                    // Nobody else takes from this ring, nor this P while its machine is in the runtime: so the task may
                    // be there before it has left its stack.
                    self->set_state(task_state::runnable);
                    p->ring.rotate(ring, self);
                    prepare_to_leave(p, self, wait_reason::none);
                    if (raised != 0) [[unlikely]] probe::task_switch(*self, wait_reason::none, next);
                    m = depart(m, p, self, next);
                    return true;
                }
            }
        }
    }
    leave_runtime(*m);
    return false;
}

inline void passes_by() noexcept {
    machine* m = this_machine();
    if (!m || !m->cur || m->cur->is_thread() || m->cur->blocking != 0 || ++m->passed % 256 != 0) return;
    yield_now(m);
}

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
        if (const sched::processor* p = m->p; !p || p->called()) [[unlikely]]
            sched::suspension_point(m);
        return;
    }
    sched::yield_anyhow(m);
}

} // namespace mpg
