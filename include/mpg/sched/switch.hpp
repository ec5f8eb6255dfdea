// Leaving a task for the next one: park.hpp and yield.hpp do it for a task that goes on later, task_entry.hpp for one that ends.
//
// A task that parks switches straight to the next one (runnext, then the ring); only when there is none, or at every
// 61st switch, the machine goes to its scheduler stack (g0), which does everything slow.
//
// After a switch the new execution first runs machine::finish: the part of the old one's park that makes it visible to
// others (release of a lock, a queue). Before that nobody else knows of the old task, and its registers are saved (publish.hpp).
// From the start of a switch until the new execution is back in user code the machine is in the runtime.
#pragma once

#include <mpg/sched/publish.hpp>
#include <mpg/sched/ready.hpp>

namespace mpg::sched {

[[noreturn]] void task_entry() noexcept;

inline bool bind_stack(machine* m, task& t) noexcept {
    t.stack = m->p ? m->p->stacks.allocate() : t.rt->stacks.allocate();
    if (!t.stack) return false;
    fiber::stack_pool& pool = t.rt->stacks;
    char* top = pool.top(t.stack);
    char* low = t.stack + pool.guard_bytes();
    t.ex = fiber::execution{};
    t.ex.ctx = fiber::make<task_entry>(top, static_cast<std::size_t>(top - low));
    fiber::begin_execution(t.ex, low, static_cast<std::size_t>(top - low));
    return true;
}

/// runnext, else the oldest of the ring. Owner of p.
MPG_ALWAYS_INLINE task* take_local(processor& p) noexcept {
    if (task* t = p.runnext.load(std::memory_order_relaxed)) {
        p.runnext.store(nullptr, std::memory_order_relaxed);
        return t;
    }
    bump(p.slices);
    return p.ring.pop(p.alone);
}

/// t, which was taken from m's P, with a stack; null when only the scheduler can start it: then it is runnext again. So
/// it is when the P is out of stacks: to get more takes system calls and page faults, and who parks holds a lock until it
/// is off its stack.
MPG_ALWAYS_INLINE task* startable(machine* m, task* t) noexcept {
    if (t->bound ||
        (t->get_state() == task_state::fresh && (m->p->stacks.size() == 0 || !bind_stack(m, *t)))) [[unlikely]] {
        m->p->runnext.store(t, std::memory_order_relaxed);
        return nullptr;
    }
    return t;
}

/// The next task of this machine's P, without leaving the current stack; null: go to the scheduler.
MPG_ALWAYS_INLINE task* pick_local(machine* m) noexcept {
    processor* p = m->p;
    if (!p || m->locked || p->called()) [[unlikely]] return nullptr;
    if (bump(p->tick) % 61 == 0) [[unlikely]] return nullptr;
    task* t = take_local(*p);
    return t ? startable(m, t) : nullptr;
}

/// t is what m runs next.
MPG_ALWAYS_INLINE void begin_run(machine* m, task& t) noexcept {
    t.set_state(task_state::running);
    sample_start(m->p, t);
    probe::task_start(t, m->p);
}
/// The same right after a task that has ended.
MPG_ALWAYS_INLINE void begin_run_at_once(machine* m, task& t) noexcept {
    t.set_state(task_state::running);
    sample_start(m->p, t);
    probe::task_start_at_once(t, m->p);
}

/// self stops running. p's clock is at most a scheduler visit old; no two stamps of a record are equal.
MPG_ALWAYS_INLINE void stamp(const processor* p, task* self) noexcept {
    base::nanos now = p ? p->clock.load(std::memory_order_relaxed) : base::now();
    self->since = now > self->since ? now : self->since + 1;
}

[[noreturn]] MPG_NOINLINE inline void suspended_nevertheless(const task& t, wait_reason why) noexcept {
    const std::string name = name_of(t);
    fatal("task " + std::to_string(t.id) + (name.empty() ? "" : " (" + name + ")") + " suspends under no_suspend: " +
          (why == wait_reason::none ? "yield" : std::string(to_string(why))));
}

/// self is about to leave its stack. why: what it waits for; none: it can go on.
MPG_ALWAYS_INLINE void prepare_to_leave(const processor* p, task* self, wait_reason why) noexcept {
#if !defined(NDEBUG)
    if (self->no_suspend != 0 && !self->bound) [[unlikely]] suspended_nevertheless(*self, why);
#endif
    stamp(p, self);
    if (why != wait_reason::none) probe::probe_block(*self, why);
}

/// Leaves the current task for next, or for the scheduler (null). Returns when it runs again, maybe on another thread: so
/// what this is inlined into is not, and keeps nothing of the old one. m is in the runtime, and no longer when this returns.
/// p: m's. Returns the machine that it runs on. The recorder is not told.
MPG_ALWAYS_INLINE machine* depart(machine* m, processor* p, task* self, task* next) noexcept {
    m->cur = next;
    if (next) {
        next->set_state(task_state::running);
        sample_start(p, *next);
        probe::probe_start(*next, p);
    }
    fiber::switch_here(self->ex, next ? next->ex : m->g0, m->anchor);
    m = this_machine();
    run_finish(m);
    leave_runtime(*m);
    return m;
}

/// The same for a task that is to be published by finish(arg) if that is not null.
MPG_ALWAYS_INLINE machine* leave_for(machine* m, processor* p, task* self, task* next, void (*finish)(void*) noexcept,
                                     void* arg, wait_reason why) noexcept {
    prepare_to_leave(p, self, why);
    m->finish = finish;
    m->finish_arg = arg;
    probe::task_switch(*self, why, next);
    return depart(m, p, self, next);
}

/// Leaves the current task for the next one of the P. m is not in the runtime yet.
MPG_NOINLINE inline void switch_away(machine* m, task* self, void (*finish)(void*) noexcept, void* arg,
                                     wait_reason why = wait_reason::none) noexcept {
    enter_runtime(*m);
    task* next = pick_local(m);
    leave_for(m, m->p, self, next, finish, arg, why);
}

} // namespace mpg::sched
