// Leaving a task for the next one, and the life of a task on its stack.
//
// A task that parks switches straight to the next one (runnext, then the ring); only when there is none, or at every
// 61st switch, the machine goes to its scheduler stack (g0), which does everything slow. A task that ends calls the
// next one on its own stack if that has not started yet.
//
// After a switch the new execution first runs machine::finish: the part of the old one's park that makes it visible to
// others (release of a lock, a queue). Before that nobody else knows of the old task, and its registers are saved.
// From the start of a switch until the new execution is back in user code the machine is in the runtime.
#pragma once

#include <mpg/sched/ready.hpp>
#include <mpg/sched/unwound.hpp>

#include <exception>

namespace mpg::sched {

[[noreturn]] void task_entry() noexcept;

MPG_ALWAYS_INLINE void run_finish(machine* m) noexcept {
    if (auto* f = m->finish) {
        m->finish = nullptr;
        f(m->finish_arg);
    }
}

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
    if (!p || m->locked || p->attention.load(std::memory_order_relaxed)) [[unlikely]] return nullptr;
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
/// p: m's. Returns the machine that it runs on.
MPG_ALWAYS_INLINE machine* depart(machine* m, processor* p, task* self, task* next, wait_reason why) noexcept {
    m->cur = next;
    if (next) {
        next->set_state(task_state::running);
        sample_start(p, *next);
        probe::probe_start(*next, p);
    }
    probe::task_switch(*self, why, next);
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
    return depart(m, p, self, next, why);
}

/// Leaves the current task for the next one of the P. m is not in the runtime yet.
MPG_NOINLINE inline void switch_away(machine* m, task* self, void (*finish)(void*) noexcept, void* arg,
                                     wait_reason why = wait_reason::none) noexcept {
    enter_runtime(*m);
    task* next = pick_local(m);
    leave_for(m, m->p, self, next, finish, arg, why);
}

/// A plain thread waits. It serves the timer of its wait, if there is one.
MPG_NOINLINE inline bool park_thread(machine* m, task* t, const park_ops& ops, void* arg) noexcept {
    ops.commit(arg);
    while (t->futex.exchange(0, std::memory_order_acquire) == 0) { // pairs with: ready_thread
        timer_node* alarm = m->alarm;
        if (alarm && alarm->deadline <= base::now()) {
            m->alarm = nullptr;
            alarm->fire(*alarm); // readies this thread unless somebody else does
        } else {
            futex_wait(t->futex, 0, alarm ? alarm->deadline : base::never);
        }
    }
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
    return m && m->rt ? m->rt->trace.released.load(std::memory_order_acquire) : nullptr; // pairs with: registry::attach
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
    if (t->rt->trace.waited.load(std::memory_order_relaxed)) [[unlikely]]
        return park_watched(m, t, ops, arg, __builtin_return_address(0));
    return park_task(m, t, ops, arg);
}

/// The usual case of park: the current task has woken another one, which has run before and so runs next. False: nothing
/// was done. m becomes the machine where the caller goes on; what this is inlined into is not.
MPG_ALWAYS_INLINE bool park_for_woken(machine*& m, const park_ops& ops, void* arg) noexcept {
    if (!m || !m->rt || m->rt->trace.waited.load(std::memory_order_relaxed) || !try_enter_runtime(*m)) [[unlikely]]
        return false;
    processor* p = m->p;
    task* next = p ? p->runnext.load(std::memory_order_relaxed) : nullptr;
    if (next && !m->locked && p->attention.load(std::memory_order_relaxed) == 0 && next->ex.ctx.sp && !next->bound) [[likely]] {
        const std::uint32_t tick = p->tick.load(std::memory_order_relaxed) + 1;
        if (tick % 61 != 0) [[likely]] {
            p->tick.store(tick, std::memory_order_relaxed);
            p->runnext.store(nullptr, std::memory_order_relaxed);
            task* self = m->cur;
            self->wait = &ops;
            self->wait_arg = arg;
            self->set_state(task_state::waiting); // who holds a P is not in blocking()
            prepare_to_leave(p, self, ops.reason);
            // Where there is no other P nobody else can run it, nor take this one from a machine in the runtime: who wakes
            // it now puts it on a queue. So it may be found before it has left its stack.
            if (p->alone) {
                ops.commit(arg);
            } else {
                m->finish = ops.commit;
                m->finish_arg = arg;
            }
            m = depart(m, p, self, next, ops.reason);
            return true;
        }
    }
    leave_runtime(*m);
    return false;
}

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
    if (p && !m->locked && p->attention.load(std::memory_order_relaxed) == 0 && bump(p->tick) % 61 != 0) [[likely]] {
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
    if (p && !m->locked && p->attention.load(std::memory_order_relaxed) == 0 &&
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
                    m = leave_for(m, p, self, next, nullptr, nullptr, wait_reason::none);
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

// ---- the life of a task

MPG_NOINLINE inline void destroy_extras(task* t) noexcept {
    while (task_extras* x = t->extras) {
        if (x->destroy_locals && x->locals) {
            void* locals = std::exchange(x->locals, nullptr);
            x->destroy_locals(locals); // may make new ones
            continue;
        }
        {
            std::lock_guard hold(t->rt->names_lock);
            t->extras = nullptr;
        }
        delete x;
    }
}

/// Runs one task to its end, on the stack that is bound to it. Returns on the machine where it ended, in the runtime.
inline void run_task(task* t) noexcept {
    bool start = !t->rt->stopping.load(std::memory_order_relaxed);
    leave_runtime(*this_machine());
    t->body(*t, t->closure(), start ? closure_op::run : closure_op::destroy);
    if (t->extras) [[unlikely]] destroy_extras(t);
    enter_runtime(*this_machine());
    if (t->bound) [[unlikely]] { // it ends with a thread_lock
        t->bound->locked = false;
        t->bound = nullptr;
    }
    probe::task_end(*t);
    t->set_state(task_state::ended);
}

/// After the switch away from the stack of a task that ended.
inline void release_stack(void* stack) noexcept {
    machine* m = this_machine();
    if (m->p)
        m->p->stacks.release(static_cast<char*>(stack));
    else {
        char* one = static_cast<char*>(stack);
        m->rt->stacks.release(&one, 1);
    }
}

#if defined(MPG_ASAN) || defined(MPG_TSAN)
struct ended_stack {
    char* stack;
    fiber::execution ex;
};
/// Sanitizer builds: the fiber is destroyed once it is left.
inline void release_execution(void* arg) noexcept {
    auto* e = static_cast<ended_stack*>(arg);
    fiber::end_execution(e->ex);
    char* stack = e->stack;
    delete e;
    release_stack(stack);
}
#endif

/// One more task of rt has ended, on m. In the runtime.
MPG_ALWAYS_INLINE void count_ended(machine* m, runtime_state& rt) noexcept {
    if (processor* p = m->p) [[likely]]
        p->ended.store(p->ended.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    else
        rt.foreign_ended.fetch_add(1, std::memory_order_release); // both pair with: runtime_state::live
}

/// The record of an ended task goes; it counts as ended. In the runtime.
MPG_ALWAYS_INLINE void retire(machine* m, task* t) noexcept {
    runtime_state& rt = *t->rt;
    if (drops_last(t)) free_record(t, m->p);
    count_ended(m, rt);
}

/// Everything that runs on a task's stack starts here.
[[noreturn]] inline void task_entry() noexcept {
    machine* m = this_machine();
    fiber::arrived(m->cur->ex);
    run_finish(m);
    for (;;) {
        task* t = this_machine()->cur;
        run_task(t);
        m = this_machine();
        char* stack = t->stack;
        t->stack = nullptr;
#if defined(MPG_ASAN) || defined(MPG_TSAN)
        m->ended.sanitizer = t->ex.sanitizer;
#endif
        retire(m, t);

        processor* p = m->p;
        task* next = nullptr;
#if !defined(MPG_ASAN) && !defined(MPG_TSAN)
        // The next one has not started: call it right here.
        if (p && !m->locked && !p->attention.load(std::memory_order_relaxed)) [[likely]] {
            next = take_local(*p);
            if (next && next->get_state() == task_state::fresh && !next->bound && bump(p->tick) % 61 != 0) [[likely]] {
                next->stack = stack;
                fiber::start_over(m->anchor);
                m->cur = next;
                begin_run_at_once(m, *next);
                continue;
            }
            if (next) {
                if (next->bound || next->get_state() == task_state::fresh) {
                    p->runnext.store(next, std::memory_order_relaxed); // the scheduler's business
                    next = nullptr;
                } else {
                    bump(p->tick);
                }
            }
        }
        m->finish = release_stack;
        m->finish_arg = stack;
#else
        (void)p;
        m->finish = release_execution;
        m->finish_arg = new ended_stack{stack, m->ended};
#endif
        m->cur = next;
        if (next) begin_run_at_once(m, *next);
        // What is saved of this stack, which is left, stands in the machine: the next one's stack must not keep its address.
        fiber::switch_execution(m->ended, next ? next->ex : m->g0, m->anchor, true);
        __builtin_unreachable();
    }
}

} // namespace mpg::sched
