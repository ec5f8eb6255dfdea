// A machine runs one task until that comes back to the scheduler's stack.
#pragma once

#include <mpg/sched/preempt.hpp>
#include <mpg/sched/task_entry.hpp>

namespace mpg::sched {

/// The task of a surplus machine has been left. Until it is published it counts as blocking: the process is not
/// deadlocked meanwhile.
MPG_NOINLINE inline bool end_surplus(machine* m) noexcept {
    runtime_state& rt = *m->rt;
    m->retaken.store(retake::no, std::memory_order_relaxed);
    run_finish(m);
    no_longer_blocking(rt);
    return false;
}

/// Runs t on this machine until it comes back here. m->g0 is current. True: the machine still holds a P. False: it
/// waits to be given work; from then on who gives it writes m->p and m->job, maybe before this returns.
inline bool execute(machine* m, task* t) noexcept {
    if (t->bound && t->bound != m) { // thread_lock: its machine takes our P
        machine* other = t->bound;
        processor* p = std::exchange(m->p, nullptr);
        p->m.store(other, std::memory_order_release); // pairs with: the monitor's look at p
        other->p = p;
        other->job = t;
        probe::handoff(*m->rt, *p, *other);
        m->rt->handoffs.fetch_add(1, std::memory_order_relaxed);
        other->wake.set();
        return false;
    }
    if (t->get_state() == task_state::fresh && !bind_stack(m, *t))
        no_memory("the stack", t->id);
    m->cur = t;
    if (t->blocking) {
        t->set_state(task_state::blocking);
        probe::task_start(*t, nullptr);
    } else {
        begin_run(m, *t);
    }
    fiber::switch_execution(m->g0, t->ex, m->anchor);
    if (m->retaken.load(std::memory_order_relaxed) == retake::surplus) [[unlikely]] return end_surplus(m);
    if (!m->locked) [[likely]] {
        bool holds = m->p != nullptr;
        run_finish(m);
        return holds;
    }
    // A locked machine gives its P away. It has none any more before its task can be found by others: who finds it writes m->p.
    // But nobody else has that P before the task is published: finish may release a lock that is at home there (bias.hpp).
    // Until the P has a machine the task counts as blocking: the process is not deadlocked meanwhile.
    runtime_state& rt = *m->rt;
    rt.blocking_count.fetch_add(1, std::memory_order_acq_rel);
    processor* p = std::exchange(m->p, nullptr);
    run_finish(m);
    if (p) start_machine(rt, p, nullptr, false);
    no_longer_blocking(rt);
    return false;
}

} // namespace mpg::sched
