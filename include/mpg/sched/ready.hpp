// How a task becomes runnable.
#pragma once

#include <mpg/sched/idle.hpp>
#include <mpg/sched/latency.hpp>
#include <mpg/sched/probes.hpp>
#include <mpg/sched/records.hpp>

namespace mpg::sched {

/// The oldest of a full ring go to the global queue. Apart, for a task that pushes has little stack to spare.
MPG_NOINLINE inline void overflow(processor& p) noexcept {
    task* oldest[128];
    if (std::uint32_t n = p.ring.take_oldest(oldest, 128); n != 0) p.rt->global.push(p.tokens, oldest, n);
}

/// Makes t visible on p's ring; the oldest of a full ring go to the global queue. Owner of p.
MPG_ALWAYS_INLINE void push_ring(processor& p, task* t) noexcept {
    while (!p.ring.push(t)) [[unlikely]] overflow(p);
}

/// To the global queue, from anywhere. A thread that is none of rt's keeps rt from being freed meanwhile: once the task
/// is in the queue it may run to its end, and its runtime, too. Until then t keeps it alive.
inline void inject(runtime_state& rt, task* t) noexcept {
    machine* m = this_machine();
    const bool own = m && m->rt == &rt;
    if (!own) rt.pins.fetch_add(1, std::memory_order_relaxed);
    rt.global.push(t);
    published(rt);
    // After the fence of published, which pairs with that of doze: it sees the task, or we see it.
    if (processor* p = rt.dozer.load(std::memory_order_relaxed)) [[unlikely]] p->poll->wake();
    if (!own) unpin(rt);
}

/// A blocking task goes to a machine without a P: a parked one, or a new one.
inline void push_job(runtime_state& rt, task* t) noexcept { start_machine(rt, nullptr, t, false); }

MPG_NOINLINE inline void ready_thread(task* t) noexcept {
    // pairs with: park_thread; the thread may go on at once
    if (t->futex.exchange(strand_readied, std::memory_order_release) == strand_sleeps) futex_wake(t->futex);
}

MPG_NOINLINE inline void ready_elsewhere(task* t) noexcept {
    if (t->is_thread()) return ready_thread(t);
    runtime_section here;
    probe::task_ready(*t);
    if (t->blocking != 0) {
        runtime_state& rt = *t->rt;
        const bool own = here.m && here.m->rt == &rt;
        if (!own) rt.pins.fetch_add(1, std::memory_order_relaxed); // as in inject
        t->set_state(task_state::blocking);
        push_job(rt, t);
        if (!own) unpin(rt);
    } else {
        t->set_state(task_state::runnable);
        sample_ready(nullptr, *t);
        inject(*t->rt, t);
    }
}

/// The task that the current one has woken before another one. Owner of p, on m.
MPG_NOINLINE inline void push_aside(machine* m, processor& p, task* old) noexcept {
    push_ring(p, old);
    if (!p.alone && !m->polling) published(*p.rt);
}

MPG_NOINLINE inline void ready_anyhow(task* t) noexcept {
    machine* m = this_machine();
    runtime_state* rt = t->rt;
    if (!m || m->rt != rt || !rt || t->blocking != 0) [[unlikely]] return ready_elsewhere(t);
    enter_runtime(*m);
    processor* p = m->p;
    if (!p) [[unlikely]] {
        leave_runtime(*m);
        return ready_elsewhere(t);
    }
    t->set_state(task_state::runnable);
    probe::task_ready(*t);
    sample_ready(p, *t);
    task* old = p->runnext.load(std::memory_order_relaxed);
    p->runnext.store(t, std::memory_order_relaxed);
    if (old) [[unlikely]] push_aside(m, *p, old);
    leave_runtime(*m);
}

/// The usual case at once: nobody else is to run next, and nobody looks on.
inline void ready(task* t) noexcept {
    machine* m = this_machine();
    runtime_state* rt = t->rt;
    if (m && m->rt == rt && rt && t->blocking == 0 && try_enter_runtime(*m)) [[likely]] {
        processor* p = m->p;
        if (p && !p->runnext.load(std::memory_order_relaxed) && p->undisturbed() && !in_sample(*p)) [[likely]] {
            t->set_state(task_state::runnable);
            probe::probe_ready(*t);
            p->runnext.store(t, std::memory_order_relaxed);
            return leave_runtime(*m);
        }
        leave_runtime(*m);
    }
    ready_anyhow(t);
}

/// The world has woken t. True: it goes first. See precedence.hpp.
MPG_ALWAYS_INLINE bool rise(task& t) noexcept {
    if (t.standing < standing::proven) ++t.standing;
    return t.standing >= standing::first;
}

MPG_ALWAYS_INLINE void ready_in_ring(task* t, bool by_world) noexcept {
    if (t->is_thread() || t->blocking != 0) [[unlikely]] return ready_elsewhere(t);
    runtime_section here;
    runtime_state& rt = *t->rt;
    processor* p = here.of(rt);
    t->set_state(task_state::runnable);
    probe::task_ready(*t);
    sample_ready(p, *t);
    if (!p) [[unlikely]] return inject(rt, t);
    if (by_world && rise(*t)) p->awaited.store(true, std::memory_order_relaxed);
    push_ring(*p, t);
    if (!p->alone && !here.m->polling) published(rt);
}
inline void ready_later(task* t) noexcept { ready_in_ring(t, false); }
inline void ready_by_world(task* t) noexcept { ready_in_ring(t, true); }

} // namespace mpg::sched
