// Joining a task that has not started: it is called on the stack of who joins.
//
// Who waits for the end of one task, and for nothing else, cannot go on before; so the task may as well run on its stack,
// and fork-join costs a call and no switch. The task stays a task: it has its record, name and locals, errno, exceptions
// and rounding mode are its own, and when it parks, the stack rests with it and its host. The host counts as waiting; it
// is on no queue, and goes on when the call returns, perhaps on another thread. A stop leaves it alone and withdraws the
// task instead.
//
// Only a task that this P has pushed lately is taken (run_queue::take_back): what a fork leaves that joins its parts one
// after the other. Half of the stack must be left.
#pragma once

#include <mpg/sched/task_entry.hpp>

namespace mpg::sched {

inline constexpr park_ops hosting{wait_reason::join, nullptr, [](void*) noexcept { return false; }};

/// Takes t for the current task. False: it is not to be had.
inline bool take_in_place(machine* m, task* host, task* t, const char* here) noexcept {
    struct section {
        machine* m;
        explicit section(machine* at) noexcept : m(at) { enter_runtime(*m); }
        ~section() { leave_runtime(*m); }
    } inside{m};
    processor* p = m->p;
    if (!p || t->rt != m->rt || m->locked || host->blocking != 0 || !host->stack ||
        p->called() || t->get_state() != task_state::fresh)
        return false;
    const fiber::stack_pool& pool = m->rt->stacks;
    if (here < host->stack + pool.guard_bytes() + (pool.slot_bytes() - pool.guard_bytes()) / 2) return false;
    if (!p->ring.take_back(t, p->alone)) return false;
    bump(p->tick);
    stamp(p, host);
    probe::probe_block(*host, wait_reason::join);
    host->wait = &hosting;
    host->set_state(task_state::waiting);
    t->stack = host->stack;
#if defined(MPG_ASAN) || defined(MPG_TSAN)
    t->ex.sanitizer = host->ex.sanitizer;
#endif
    m->cur = t;
    t->set_state(task_state::running);
    sample_start(p, *t);
    probe::probe_start(*t, p);
    probe::task_switch(*host, wait_reason::join, t);
    return true;
}

/// The end of a task that ran in place of its host.
inline void end_in_place(task* host, task* t) noexcept {
    machine* m = this_machine();
    enter_runtime(*m);
    if (t->bound) [[unlikely]] { // it ends with a thread_lock
        t->bound->locked = false;
        t->bound = nullptr;
    }
    t->stack = nullptr;
#if defined(MPG_ASAN) || defined(MPG_TSAN)
    t->ex.sanitizer = nullptr;
#endif
    probe::task_end(*t);
    t->set_state(task_state::ended);
    // The handle is the host's, who is here: of the two holders of the record the run goes, and nobody else counts.
    t->refs.store(1, std::memory_order_relaxed);
    count_ended(m, *t->rt);
    m->cur = host;
    host->wait = nullptr;
    host->set_state(task_state::running);
    probe::task_start_at_once(*host, m->p);
    leave_runtime(*m);
}

/// Runs t to its end if it was started last here and has not begun. False: nothing was done.
MPG_NOINLINE inline bool run_in_place(task* t) noexcept {
    machine* m = this_machine();
    if (!m || !m->rt || m->rt->stopping.load(std::memory_order_relaxed)) return false;
    task* host = m->cur;
    if (!take_in_place(m, host, t, static_cast<const char*>(__builtin_frame_address(0)))) return false;
    fiber::thread_state kept;
    fiber::begin_nested(kept, m->anchor);
    t->body(*t, t->closure(), closure_op::run);
    if (t->extras) [[unlikely]] destroy_extras(t);
    fiber::end_nested(kept, this_machine()->anchor);
    end_in_place(host, t);
    return true;
}

} // namespace mpg::sched
