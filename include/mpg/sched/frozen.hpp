// Frozen machines: how a machine gives its P away in the middle of a task, and how it is given one again.
//
// A frozen machine is on rt.frozen_first..., FIFO, guarded by frozen_lock; who unlinks it owns it and must give it a P, let it
// go on without, or put it back. It is linked before its P is given away, so that it may be picked before it waits; thaw is
// an event, so that this is harmless. A frozen task counts as runnable work: work_visible() sees it. One that the monitor has
// unlinked, and one that goes on without a P, counts as blocking. A task whose machine has no P counts as one or the other at
// any time, so the process never looks deadlocked because of it.
//
// Who takes from the queue, and when: preempt.hpp, find_task.hpp, monitor.hpp.
//
// Templates, so that the model (tests/model) runs the same lines as the runtime; `+x` reads what it watches for data races.
#pragma once

#include <mpg/sched/bump.hpp>
#include <mpg/sched/idle_list.hpp>
#include <mpg/sched/relief.hpp>
#include <mpg/sched/retake.hpp>

#include <cstdint>
#include <mutex>

namespace mpg::sched {

// ---- the queue

template <class Runtime, class Machine> void push_frozen(Runtime& rt, Machine* m, bool front = false) noexcept {
    std::lock_guard hold(rt.frozen_lock);
    Machine* const first = rt.frozen_first;
    m->frozen = true;
    m->next_frozen = front ? first : nullptr;
    if (front || !first) {
        rt.frozen_first = m;
    } else {
        Machine* const last = rt.frozen_last;
        last->next_frozen = m;
    }
    if (!front || !first) rt.frozen_last = m;
    rt.frozen_count.fetch_add(1, std::memory_order_seq_cst); // pairs with: work_visible
}
/// The oldest, or null.
template <class Runtime> auto pop_frozen(Runtime& rt) noexcept {
    std::lock_guard hold(rt.frozen_lock);
    auto* m = +rt.frozen_first;
    if (!m) return m;
    rt.frozen_first = +m->next_frozen;
    rt.frozen_count.fetch_sub(1, std::memory_order_seq_cst);
    return m;
}

/// As pop_frozen, for the monitor, which keeps the machine until somebody can hand a P over to it. Meanwhile the task
/// counts as blocking: it is on no queue, and the process is not deadlocked.
template <class Runtime> auto reserve_frozen(Runtime& rt) noexcept {
    rt.blocking_count.fetch_add(1, std::memory_order_seq_cst);
    auto* m = pop_frozen(rt);
    if (m)
        m->reserved = true;
    else
        rt.blocking_count.fetch_sub(1, std::memory_order_seq_cst);
    return m;
}
/// A reserved one, for which there was no P after all.
template <class Runtime, class Machine> void put_frozen_back(Runtime& rt, Machine* m) noexcept {
    m->reserved = false;
    push_frozen(rt, m, true);
    rt.blocking_count.fetch_sub(1, std::memory_order_seq_cst);
}

/// With idle_lock held while all Ps are idle, so that no machine is given one: is there no task that could go on?
template <class Runtime> bool nobody_goes_on(Runtime& rt) noexcept {
    std::lock_guard hold(rt.frozen_lock); // none is reserved or put back between the two counts
    return rt.blocking_count.load(std::memory_order_acquire) == 0 && !work_visible(rt);
}

// ---- the way back

/// Gives p to a machine that waits for one: frozen and unlinked, or spare and off the list.
template <class Processor, class Machine> void hand_over(Processor& p, Machine* to) noexcept {
    const bool frozen = to->frozen;
    to->p = &p;
    if (frozen) { // before the monitor can see it on p
        to->thawed_on.store(&p, std::memory_order_relaxed);
        to->thawed_tick.store(p.tick.load(std::memory_order_relaxed), std::memory_order_relaxed);
    }
    tells_of_handoff(p, *to);
    p.m.store(to, std::memory_order_release); // pairs with: the monitor's look at p
    if (frozen) {
        if (to->reserved) {
            to->reserved = false;
            p.rt->blocking_count.fetch_sub(1, std::memory_order_seq_cst);
        }
        to->frozen = false;
        to->thaw.set();
    } else {
        to->relieves = true;
        to->wake.set();
    }
}

/// The caller's P goes to the oldest frozen machine. False: none is frozen.
template <class Machine, class Time> bool thaw_one(Machine* m, Time now) noexcept {
    Machine* f = pop_frozen(*m->rt);
    if (!f) return false;
    auto& p = *m->p;
    p.last_thaw.store(now, std::memory_order_relaxed);
    bump(p.tick);
    bump(p.slices);
    m->p = nullptr;
    comes_to_this_cpu(p, *f);
    hand_over(p, f);
    return true;
}

/// Lets all frozen tasks go on without a P. each(machine*) is called before.
template <class Runtime, class F> void thaw_all(Runtime& rt, F each) noexcept {
    while (auto* f = reserve_frozen(rt)) { // and stays counted: a surplus machine is
        f->reserved = false;
        f->frozen = false;
        f->retaken.store(retake::surplus, std::memory_order_relaxed); // its thread waits, and is the only other writer
        each(f);
        f->thaw.set();
    }
}

/// By a surplus machine: it may run on with a P that has no machine.
template <class Machine> bool regain(Machine& m) noexcept {
    auto& rt = *m.rt;
    if (rt.idle_count.load(std::memory_order_relaxed) == 0) return false;
    for (auto& p : rt.ps) {
        if (p->m.load(std::memory_order_relaxed) || !leave_bare(rt, *p)) continue;
        m.p = p.get();
        p->m.store(&m, std::memory_order_release); // pairs with: the monitor's look at p
        m.retaken.store(retake::no, std::memory_order_relaxed);
        rt.blocking_count.fetch_sub(1, std::memory_order_seq_cst);
        return true;
    }
    return false;
}

// ---- the way there

/// For which a surplus machine is asked, instead of the tick of a P.
inline constexpr std::uint32_t no_p = 0xffff'ffff;

/// By the machine's own thread, in its signal handler and in the runtime: its P goes to the relief that was promised; a surplus
/// machine has none to give. True: the machine is frozen, and waits for m.thaw. stands_still(P, or null) is called before anybody
/// can thaw it. False: it was not asked, and goes on.
template <class Machine, class F> bool gives_way(Machine& m, F stands_still) noexcept {
    auto& rt = *m.rt;
    begins_to_freeze(rt);
    if (auto* p = +m.p) {
        Machine* relief = take_relief(m, p->tick.load(std::memory_order_relaxed));
        if (relief && relief != &m) { // itself: it has been surplus until now
            stands_still(p);
            bump(p->tick);
            bump(p->slices);
            m.p = nullptr;
            push_frozen(rt, &m);
            ends_to_freeze(rt);
            comes_to_this_cpu(*p, *relief);
            hand_over(*p, relief);
            return true;
        }
    } else if (m.retaken.load(std::memory_order_relaxed) == retake::surplus && take_relief(m, no_p)) {
        stands_still(p);
        m.retaken.store(retake::no, std::memory_order_relaxed);
        push_frozen(rt, &m);
        ends_to_freeze(rt);
        no_longer_blocking(rt);
        wake_monitor(rt); // all Ps may be idle by now: it wakes one, which a handler cannot (that may start a thread)
        return true;
    }
    ends_to_freeze(rt); // in blocking(), or not asked
    return false;
}

} // namespace mpg::sched
