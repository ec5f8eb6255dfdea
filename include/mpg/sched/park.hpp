// park: the current strand waits until ready is called for it. The protocol stands in wait.hpp.
#pragma once

#include <mpg/sched/switch.hpp>

#include <algorithm>

namespace mpg::sched {

/// A plain thread waits. It serves the timer of its wait, if there is one. Where its waits have been short it looks for a while
/// before it sleeps, as a P does that has no work: to put a thread to sleep and to wake it takes longer than that.
///
/// No wake-up is lost: from `waits` the word goes to `sleeps` here and to `readied` in ready_thread, each by a read-modify-write. Either
/// that finds `sleeps`, and wakes; or this finds `readied`. The kernel compares once more, so a wake-up before the sleep ends it.
MPG_NOINLINE inline bool park_thread(machine* m, task* t, const park_ops& ops, void* arg) noexcept {
    constexpr base::nanos spin = 20'000;
    base::atomic<std::uint32_t>& word = t->futex;
    ops.commit(arg);
    const base::nanos begin = base::now();
    if (m->may_spin && m->wait_gap < 2 * spin && m->looks_after-- == 0) {
        base::nanos until = begin + spin;
        if (m->alarm) until = std::min(until, m->alarm->deadline);
        do {
            for (unsigned i = 8; i != 0; --i) base::cpu_relax();
        } while (word.load(std::memory_order_relaxed) == strand_waits && base::now() < until);
        // In vain: the waker may want this CPU. The next look is put off for twice as many waits each time.
        m->in_vain = word.load(std::memory_order_relaxed) != strand_waits ? 0 : std::min(m->in_vain + 1, 12u);
        m->looks_after = (1u << m->in_vain) - 1;
    }
    for (;;) {
        if (word.load(std::memory_order_acquire) == strand_readied) break; // pairs with: ready_thread
        timer_node* alarm = m->alarm;
        std::uint32_t waits = strand_waits;
        if (alarm && alarm->deadline <= base::now()) {
            m->alarm = nullptr;
            alarm->fire(*alarm); // readies this thread unless somebody else does
        } else if (word.compare_exchange_strong(waits, strand_sleeps, std::memory_order_relaxed) || waits == strand_sleeps) {
            futex_wait(word, strand_sleeps, alarm ? alarm->deadline : base::never);
        }
    }
    word.store(strand_waits, std::memory_order_relaxed);
    m->wait_gap += (std::min<base::nanos>(base::now() - begin, 1'000'000) - m->wait_gap) / 8;
    return true;
}

/// Leaves a task that waits, of a machine without a P, for the scheduler. A stop looks at all that wait when the other Ps have
/// been given up: what was written by a machine that gave one up it sees by that, and of such a one by the task's state.
MPG_NOINLINE inline void park_without_p(machine* m, task* t, const park_ops& ops) noexcept {
    auto commit = [](void* arg) noexcept {
        auto* self = static_cast<task*>(arg);
        const park_ops& waits = *self->wait;
        void* with = self->wait_arg;
        // release: pairs with withdraw_all
        self->state.store(self->blocking ? task_state::blocking : task_state::waiting, std::memory_order_release);
        waits.commit(with);
    };
    leave_for(m, nullptr, t, nullptr, commit, t, ops.reason);
}

MPG_ALWAYS_INLINE bool park_task(machine* m, task* t, const park_ops& ops, void* arg) noexcept {
    t->wait = &ops;
    t->wait_arg = arg;
    enter_runtime(*m);
    if (m->p) [[likely]] {
        t->set_state(task_state::waiting); // who holds a P is not in blocking()
        task* next = pick_local(m);
        leave_for(m, m->p, t, next, ops.commit, arg, ops.reason);
    } else {
        park_without_p(m, t, ops);
    }
    if (t->withdrawn.load(std::memory_order_relaxed)) [[unlikely]] {
        t->withdrawn.store(false, std::memory_order_relaxed);
        return false;
    }
    return true;
}

inline bool others_run() noexcept {
    machine* m = this_machine();
    return !m || !m->rt || m->rt->ps.size() > 1;
}

inline unsigned place() noexcept {
    if (machine* m = this_machine())
        if (processor* p = m->p) return p->index; // gone from us by now, maybe; it lives as long as the runtime
    return static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(base::spinlocks_held()) >> 12); // tells threads apart
}
inline unsigned places() noexcept {
    constexpr std::size_t most = 64;
    machine* m = this_machine();
    return static_cast<unsigned>(std::min(m && m->rt ? m->rt->ps.size() : std::size_t{8}, most));
}

/// While contention is profiled.
MPG_NOINLINE inline bool park_watched(machine* m, task* t, const park_ops& ops, void* arg, const void* caller) noexcept {
    const base::nanos began = base::now();
    const wait_reason why = ops.reason;
    const bool woken = park_task(m, t, ops, arg);
    if (contention_fn f = t->rt->trace.waited.load(std::memory_order_acquire); f && woken) // pairs with: registry::attach
        f(why, base::now() - began, caller);
    return woken;
}

inline contention_fn contention_watcher() noexcept {
    machine* m = this_machine();
    return observable && m && m->rt ? m->rt->trace.released.load(std::memory_order_acquire) : nullptr; // pairs with: registry::attach
}
inline bool contention_watched() noexcept { return contention_watcher() != nullptr; }
inline void contention_ended(base::nanos time, const void* caller) noexcept {
    if (contention_fn f = contention_watcher()) [[unlikely]] f(wait_reason::mutex, time, caller);
}

MPG_NOINLINE inline bool park(const park_ops& ops, void* arg) noexcept {
    machine* m = this_machine();
    if (!m) [[unlikely]] m = make_stand_in();
    task* t = m->cur;
    if (t->is_thread()) [[unlikely]] return park_thread(m, t, ops, arg);
    if (observable && t->rt->trace.waited.load(std::memory_order_relaxed)) [[unlikely]]
        return park_watched(m, t, ops, arg, __builtin_return_address(0));
    return park_task(m, t, ops, arg);
}

/// The usual case of park: the current task has woken another one, which has run before and so runs next. False: nothing
/// was done. m becomes the machine where the caller goes on; what this is inlined into is not.
MPG_ALWAYS_INLINE bool park_for_woken(machine*& m, const park_ops& ops, void* arg) noexcept {
    if (!m || !m->rt || !try_enter_runtime(*m)) [[unlikely]] return false;
    processor* p = m->p;
    task* next = p ? p->runnext.load(std::memory_order_relaxed) : nullptr;
    const std::uint32_t raised = p ? p->attention.load(std::memory_order_relaxed) : 0;
    if (next && !m->locked && (raised & ~attention::recorded) == 0 && next->ex.ctx.sp && !next->bound) [[likely]] {
        const std::uint32_t tick = p->tick.load(std::memory_order_relaxed) + 1;
        if (tick % 61 != 0) [[likely]] {
            p->tick.store(tick, std::memory_order_relaxed);
            p->runnext.store(nullptr, std::memory_order_relaxed);
            task* self = m->cur;
            self->wait = &ops;
            self->wait_arg = arg;
            self->set_state(task_state::waiting); // who holds a P is not in blocking()
            prepare_to_leave(p, self, ops.reason);
            publish_wait(*m, *p, ops.commit, arg);
            if (raised != 0) [[unlikely]] probe::task_switch(*self, ops.reason, next);
            m = depart(m, p, self, next);
            return true;
        }
    }
    leave_runtime(*m);
    return false;
}

} // namespace mpg::sched
