// Running tasks: what happens at a switch, what a machine does without a task, and how a task becomes runnable.
//
// A task that parks switches straight to the next one (runnext, then the ring); only when there is none, or at every
// 61st switch, the machine goes to its scheduler stack (g0), which does everything slow: the global queue, timers, the
// poller, stealing, sleeping. A task that ends calls the next one on its own stack if that has not started yet.
//
// After a switch the new execution first runs machine::finish: the part of the old one's park that makes it visible to
// others (release of a lock, a queue). Before that nobody else knows of the old task, and its registers are saved.
#pragma once

#include <mpg/sched/idle.hpp>
#include <mpg/sched/unwound.hpp>

#include <cxxabi.h>
#include <exception>
#include <typeinfo>

namespace mpg::sched {

[[noreturn]] void task_entry() noexcept;
task* stop_step(machine* m);
void give_up(machine* m);

// ---- records

inline void add_slab(runtime_state& rt) { // records_lock is not held
    auto* s = new record_slab;
    std::lock_guard hold(rt.records_lock);
    for (task& t : s->records) {
        t.next = rt.free_tasks;
        rt.free_tasks = &t;
    }
    s->next = rt.slabs;
    rt.slabs = s;
}

/// A record with an id. On a machine of this runtime from the P's pool, else under a lock. Throws std::bad_alloc.
inline task* take_record(runtime_state& rt) {
    machine* m = this_machine();
    processor* p = m && m->p && m->rt == &rt ? m->p : nullptr;
    task* t;
    if (p) {
        while (!(t = p->free_tasks)) {
            {
                std::lock_guard hold(rt.records_lock);
                while (rt.free_tasks && p->free_count < 64) {
                    task* moved = rt.free_tasks;
                    rt.free_tasks = moved->next;
                    moved->next = p->free_tasks;
                    p->free_tasks = moved;
                    ++p->free_count;
                }
            }
            if (!p->free_tasks) add_slab(rt);
        }
        p->free_tasks = t->next;
        --p->free_count;
        if (p->next_id == p->end_id) {
            p->next_id = rt.next_id.fetch_add(256, std::memory_order_relaxed);
            p->end_id = p->next_id + 256;
        }
        t->id = p->next_id++;
        bump(p->created);
    } else {
        for (;;) {
            {
                std::lock_guard hold(rt.records_lock);
                if ((t = rt.free_tasks)) {
                    rt.free_tasks = t->next;
                    break;
                }
            }
            add_slab(rt);
        }
        t->id = rt.next_id.fetch_add(1, std::memory_order_relaxed);
        rt.foreign_created.fetch_add(1, std::memory_order_release);
    }
    t->next = nullptr;
    t->rt = &rt;
    return t;
}

inline void free_record(task* t) noexcept {
    runtime_state& rt = *t->rt;
    t->set_state(task_state::free);
    machine* m = this_machine();
    processor* p = m && m->p && m->rt == &rt ? m->p : nullptr;
    if (p && p->free_count < 512) {
        t->next = p->free_tasks;
        p->free_tasks = t;
        ++p->free_count;
        return;
    }
    std::lock_guard hold(rt.records_lock);
    t->next = rt.free_tasks;
    rt.free_tasks = t;
}

inline void drop_record(task* t) noexcept {
    if (t->refs.load(std::memory_order_acquire) == 1 ||
        t->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) // pairs with: the other holder's drop
        free_record(t);
}

// ---- queues

/// Makes t visible on p's ring; the older half of a full ring goes to the global queue. Owner of p.
inline void push_ring(processor& p, task* t) noexcept {
    while (!p.ring.push(t)) [[unlikely]] {
        task* half[run_queue::capacity / 2];
        std::uint32_t n = p.ring.take_half(half);
        if (n != 0) p.rt->global.push(p.tokens, half, n);
    }
}

/// To the global queue, from anywhere.
inline void inject(runtime_state& rt, task* t) noexcept {
    rt.global.push(t);
    published(rt);
}

/// A blocking task goes to a machine without a P: a parked one, or a new one.
inline void push_job(runtime_state& rt, task* t) noexcept { start_machine(rt, nullptr, t, false); }

MPG_NOINLINE inline void ready_thread(task* t) noexcept {
    t->futex.store(1, std::memory_order_release); // pairs with: park_thread; the thread may go on at once
    futex_wake(t->futex);
}

inline void ready(task* t) noexcept {
    if (t->is_thread()) return ready_thread(t);
    runtime_state& rt = *t->rt;
    machine* m = this_machine();
    if (t->blocking != 0) [[unlikely]] {
        t->set_state(task_state::blocking);
        return push_job(rt, t);
    }
    t->set_state(task_state::runnable);
    if (m && m->p && m->rt == &rt) [[likely]] {
        processor& p = *m->p;
        task* old = p.runnext;
        p.runnext = t;
        if (old) {
            push_ring(p, old);
            if (!p.alone && !m->polling) published(rt);
        }
    } else {
        inject(rt, t);
    }
}

inline void ready_later(task* t) noexcept {
    if (t->is_thread()) return ready_thread(t);
    runtime_state& rt = *t->rt;
    machine* m = this_machine();
    if (t->blocking != 0) [[unlikely]] return ready(t);
    t->set_state(task_state::runnable);
    if (m && m->p && m->rt == &rt) [[likely]] {
        push_ring(*m->p, t);
        if (!m->p->alone && !m->polling) published(rt);
    } else {
        inject(rt, t);
    }
}

// ---- switching

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

/// The next task of this machine's P, without leaving the current stack; null: go to the scheduler.
MPG_ALWAYS_INLINE task* pick_local(machine* m) noexcept {
    processor* p = m->p;
    if (!p || m->locked || p->attention.load(std::memory_order_relaxed)) [[unlikely]] return nullptr;
    if (++p->tick % 61 == 0) [[unlikely]] return nullptr;
    task* t = p->runnext;
    if (t)
        p->runnext = nullptr;
    else if (!(t = p->ring.pop(p->alone)))
        return nullptr;
    if (t->bound || (t->get_state() == task_state::fresh && !bind_stack(m, *t))) [[unlikely]] {
        p->runnext = t; // the scheduler knows what to do
        return nullptr;
    }
    return t;
}

/// self stops running. Its P's clock is at most a scheduler visit old; no two stamps of a record are equal.
MPG_ALWAYS_INLINE void stamp(machine* m, task* self) noexcept {
    base::nanos now = m->p ? m->p->clock.load(std::memory_order_relaxed) : base::now();
    self->since = now > self->since ? now : self->since + 1;
}

/// Leaves the current task, which is to be published by finish(arg), for the next one. Returns when it runs again.
inline void switch_away(machine* m, task* self, void (*finish)(void*) noexcept, void* arg) noexcept {
    std::uint32_t depth = m->in_runtime;
    m->in_runtime = 1;
    stamp(m, self);
    m->finish = finish;
    m->finish_arg = arg;
    task* next = pick_local(m);
    m->cur = next;
    if (next) next->set_state(task_state::running);
    fiber::switch_execution(self->ex, next ? next->ex : m->g0, m->anchor);
    m = this_machine();
    run_finish(m);
    this_machine()->in_runtime = depth;
}

/// A plain thread waits.
MPG_NOINLINE inline bool park_thread(task* t, const park_ops& ops, void* arg) noexcept {
    ops.commit(arg);
    while (t->futex.exchange(0, std::memory_order_acquire) == 0) futex_wait(t->futex, 0); // pairs with: ready_thread
    return true;
}

inline bool park(const park_ops& ops, void* arg) noexcept {
    machine* m = this_machine();
    if (!m) [[unlikely]] m = make_stand_in();
    task* t = m->cur;
    if (t->is_thread()) [[unlikely]] return park_thread(t, ops, arg);
    t->wait = &ops;
    t->wait_arg = arg;
    t->set_state(t->blocking ? task_state::blocking : task_state::waiting);
    switch_away(m, t, ops.commit, arg);
    if (t->withdrawn.load(std::memory_order_relaxed)) [[unlikely]] {
        t->withdrawn.store(false, std::memory_order_relaxed);
        return false;
    }
    return true;
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

/// Runs one task to its end, on the stack that is bound to it. Returns on the machine where it ended.
inline void run_task(task* t) noexcept {
    bool start = !t->rt->stopping.load(std::memory_order_relaxed);
    this_machine()->in_runtime = 0;
    t->body(*t, t->closure(), start ? closure_op::run : closure_op::destroy);
    if (t->extras) [[unlikely]] destroy_extras(t);
    machine* m = this_machine();
    m->in_runtime = 1;
    if (t->bound) [[unlikely]] { // it ends with a thread_lock
        t->bound->locked = false;
        t->bound = nullptr;
    }
    t->wait = nullptr;
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
        fiber::execution ex = t->ex;
        t->stack = nullptr;
        runtime_state& rt = *t->rt;
        drop_record(t);
        if (m->p) [[likely]]
            bump(m->p->ended);
        else
            rt.foreign_ended.fetch_add(1, std::memory_order_release);

        processor* p = m->p;
        task* next = nullptr;
#if !defined(MPG_ASAN) && !defined(MPG_TSAN)
        // The next one has not started: call it right here.
        if (p && !m->locked && !p->attention.load(std::memory_order_relaxed)) [[likely]] {
            next = p->runnext;
            if (next)
                p->runnext = nullptr;
            else
                next = p->ring.pop(p->alone);
            if (next && next->get_state() == task_state::fresh && !next->bound && ++p->tick % 61 != 0) [[likely]] {
                next->stack = stack;
                next->ex = fiber::execution{};
                *m->anchor.error = 0;
                fiber::fp_control left;
                fiber::detail::exchange_fp(left, next->ex.fp);
                m->cur = next;
                next->set_state(task_state::running);
                continue;
            }
            if (next) {
                if (next->bound || next->get_state() == task_state::fresh) {
                    p->runnext = next; // the scheduler's business
                    next = nullptr;
                } else {
                    ++p->tick;
                }
            }
        }
        m->finish = release_stack;
        m->finish_arg = stack;
#else
        (void)p;
        m->finish = release_execution;
        m->finish_arg = new ended_stack{stack, ex};
#endif
        m->cur = next;
        if (next) next->set_state(task_state::running);
        fiber::switch_execution(ex, next ? next->ex : m->g0, m->anchor, true);
        __builtin_unreachable();
    }
}

// ---- the scheduler's stack

/// Runs t on this machine until it comes back here. m->g0 is current. True: the machine still holds a P. False: it
/// waits to be given work; from then on who gives it writes m->p and m->job, maybe before this returns.
inline bool execute(machine* m, task* t) noexcept {
    if (t->bound && t->bound != m) { // thread_lock: its machine takes our P
        machine* other = t->bound;
        processor* p = std::exchange(m->p, nullptr);
        p->m.store(other, std::memory_order_relaxed);
        other->p = p;
        other->job = t;
        m->rt->handoffs.fetch_add(1, std::memory_order_relaxed);
        other->wake.set();
        return false;
    }
    if (t->get_state() == task_state::fresh && !bind_stack(m, *t))
        fatal("no memory for the stack of task " + std::to_string(t->id));
    m->cur = t;
    t->set_state(t->blocking ? task_state::blocking : task_state::running);
    fiber::switch_execution(m->g0, t->ex, m->anchor);
    if (!m->locked) [[likely]] {
        bool holds = m->p != nullptr;
        run_finish(m);
        return holds;
    }
    // A locked machine gives its P away before its task can be found by others: who finds it writes m->p. Until the
    // task is published it counts as blocking: the process is not deadlocked meanwhile.
    runtime_state& rt = *m->rt;
    rt.blocking_count.fetch_add(1, std::memory_order_acq_rel);
    if (processor* p = std::exchange(m->p, nullptr)) start_machine(rt, p, nullptr, false);
    run_finish(m);
    rt.blocking_count.fetch_sub(1, std::memory_order_seq_cst);
    if (rt.idle_count.load(std::memory_order_seq_cst) == rt.ps.size()) rt.ps[0]->poll->wake(); // it looks again
    return false;
}

inline task* take_local(processor& p) noexcept {
    if (task* t = p.runnext) {
        p.runnext = nullptr;
        return t;
    }
    return p.ring.pop(p.alone);
}

/// A share of the global queue; the first is returned, the rest goes to the ring.
inline task* take_global(runtime_state& rt, processor& p) noexcept {
    while (std::size_t size = rt.global.size()) {
        task* some[64];
        std::size_t want = std::min<std::size_t>(size / rt.ps.size() + 1, 64);
        std::size_t n = rt.global.pop(p.tokens, some, want);
        if (n == 0) {
            base::cpu_relax(); // not linearizable: what was counted will appear
            continue;
        }
        for (std::size_t i = 1; i < n; ++i) push_ring(p, some[i]);
        return some[0];
    }
    return nullptr;
}

/// Polls p's poller without waiting, unless another machine does. The caller need not hold p.
inline int reap(machine* m, processor& p, base::nanos until = 0) noexcept {
    if (!p.poll_lock.try_lock()) return 0;
    m->polling = true;
    int n = p.poll->poll(until);
    m->polling = false;
    p.poll_lock.unlock();
    return n;
}

/// One look at the other Ps: their rings, due timers and completions. seen: the heads of rings of one, from the last
/// look: a single task is taken only if it has been lying since then, for its owner will mostly run it at once.
inline task* steal(machine* m, std::vector<std::uint64_t>& seen, base::nanos now) noexcept {
    runtime_state& rt = *m->rt;
    processor& p = *m->p;
    auto n = static_cast<std::uint32_t>(rt.ps.size());
    std::uint32_t start = m->random.below(n);
    for (std::uint32_t i = 0; i < n; ++i) {
        processor& victim = *rt.ps[(start + i) % n];
        if (&victim == &p) continue;
        if (std::uint32_t size = victim.ring.size()) {
            std::uint64_t mark = std::uint64_t{1} << 32 | victim.ring.head();
            if (size > 1 || seen[victim.index] == mark) {
                task* some[run_queue::capacity];
                std::uint32_t got = victim.ring.steal(some);
                if (got != 0) {
                    bump(p.steals);
                    for (std::uint32_t k = 1; k < got; ++k) push_ring(p, some[k]);
                    return some[0];
                }
            }
            seen[victim.index] = mark;
        }
        if (victim.wheel->next() <= now) victim.wheel->advance(now);
        if (victim.poll->has_work()) reap(m, victim);
        if (task* t = take_local(p)) return t;
    }
    return nullptr;
}

/// Finds the next task for m, which holds a P; sleeps while there is none. Null: it holds no P any more.
inline task* find_task(machine* m) {
    runtime_state& rt = *m->rt;
    processor& p = *m->p;
    constexpr base::nanos spin = 50'000;
    static thread_local std::vector<std::uint64_t> seen; // the scheduler's stack does not migrate
    seen.assign(rt.ps.size(), 0);
    base::nanos idle_since = 0;
    auto found = [&](task* t) {
        if (idle_since != 0) {
            base::nanos gap = std::min<base::nanos>(base::now() - idle_since, 1'000'000);
            p.idle_gap += (gap - p.idle_gap) / 8;
        }
        stop_searching(m, true);
        return t;
    };
    for (;;) {
        if (p.attention.load(std::memory_order_acquire)) [[unlikely]] {
            stop_searching(m, false);
            if (p.index == 0) return stop_step(m);
            give_up(m);
            return nullptr;
        }
        base::nanos now = base::now();
        p.clock.store(now, std::memory_order_relaxed);
        if (p.wheel->next() <= now) p.wheel->advance(now);
        if (p.tick % 61 == 0) { // the fair way
            ++p.tick;
            reap(m, p);
            if (task* t = take_global(rt, p)) return found(t);
            if (task* t = p.ring.pop(p.alone)) return found(t);
        }
        if (task* t = take_local(p)) return found(t);
        if (p.poll->has_work() && reap(m, p) > 0) {
            if (!p.alone && p.ring.size() > 1) published(rt);
            if (task* t = take_local(p)) return found(t);
        }
        if (task* t = take_global(rt, p)) return found(t);

        // Nothing here. Look around for a while, if idle times have been short or somebody may have work.
        if (idle_since == 0) idle_since = now;
        if (!p.alone && !m->searching) {
            std::uint32_t none = 0;
            m->searching = rt.searching.compare_exchange_strong(none, 1, std::memory_order_seq_cst);
        }
        if (rt.may_spin && (p.idle_gap < spin || m->searching)) {
            base::nanos until = idle_since + (p.idle_gap < spin ? spin : spin / 10);
            bool again = false;
            do {
                if (m->searching)
                    if (task* t = steal(m, seen, now)) return found(t);
                for (int i = 0; i < 8; ++i) base::cpu_relax();
                now = base::now();
                again = rt.global.size() != 0 || p.ring.size() != 0 || p.runnext || p.poll->has_work() ||
                        p.attention.load(std::memory_order_relaxed) || p.wheel->next() <= now;
            } while (!again && now < until);
            if (again) continue;
        } else if (m->searching) {
            if (task* t = steal(m, seen, now)) return found(t);
        }

        if (!prepare_sleep(m, p)) {
            if (!m->searching) ::sched_yield(); // another one searches, and will find it
            idle_since = base::now();           // a ring of one is looked at twice before it is taken
            continue;
        }
        check_deadlock(rt);
        p.poll_lock.lock();
        m->polling = true;
        int n = p.poll->poll(p.wheel->next());
        m->polling = false;
        p.poll_lock.unlock();
        slept(m, p);
        if (n > 1 && !p.alone && p.ring.size() > 1) published(rt);
    }
}

/// Waits, without a P, until it is given one, or a task. Everything given comes with one wake.set(), and nothing given
/// is looked at before that was consumed.
inline task* await_work(machine* m) noexcept {
    runtime_state& rt = *m->rt;
    if (!m->locked) { // a locked one waits for its task, which knows it
        std::lock_guard hold(rt.machines_lock);
        m->next_spare = rt.spare;
        rt.spare = m;
        ++rt.spare_count;
    }
    m->wake.wait();
    return std::exchange(m->job, nullptr);
}

inline void machine_loop(machine* m) {
    task* t = std::exchange(m->job, nullptr); // what it was made for
    bool holds = m->p != nullptr;
    while (!m->exit.load(std::memory_order_relaxed)) {
        if (!t && holds) {
            t = find_task(m);
            if (!t) holds = false;
        }
        if (t) {
            holds = execute(m, std::exchange(t, nullptr));
            continue;
        }
        t = await_work(m);
        holds = m->p != nullptr;
    }
}

inline void* machine_main(void* arg) {
    auto* m = static_cast<machine*>(arg);
    ::pthread_sigmask(SIG_SETMASK, &m->rt->signal_mask, nullptr);
    set_this_machine(m);
    m->tid.store(static_cast<int>(::syscall(SYS_gettid)), std::memory_order_relaxed);
    m->anchor = fiber::thread_anchor::of_this_thread();
    m->random = base::random(reinterpret_cast<std::uintptr_t>(m) ^ static_cast<std::uint64_t>(base::now()));
    m->in_runtime = 1;
    ::pthread_attr_t attr;
    void* bottom = nullptr;
    std::size_t bytes = 0;
    if (::pthread_getattr_np(::pthread_self(), &attr) == 0) {
        ::pthread_attr_getstack(&attr, &bottom, &bytes);
        ::pthread_attr_destroy(&attr);
    }
    fiber::begin_scheduler(m->g0, bottom, bytes);
    machine_loop(m);
    fiber::end_scheduler(m->g0);
    set_this_machine(nullptr);
    return nullptr;
}

/// Gives p (or the blocking task) to a parked machine, or to a new one.
inline void start_machine(runtime_state& rt, processor* p, task* job, bool searching) {
    machine* m;
    {
        std::lock_guard hold(rt.machines_lock);
        m = rt.spare;
        if (m) {
            rt.spare = m->next_spare;
            --rt.spare_count;
        } else {
            if (rt.thread_count >= rt.opts.max_threads)
                fatal("thread limit of " + std::to_string(rt.opts.max_threads) + " reached");
            ++rt.thread_count;
        }
    }
    bool fresh = !m;
    if (fresh) {
        m = new machine;
        m->rt = &rt;
    }
    if (p) {
        p->m.store(m, std::memory_order_relaxed);
        m->p = p;
        m->searching = searching;
    }
    m->job = job;
    if (!fresh) return m->wake.set();

    ::pthread_attr_t attr;
    ::pthread_attr_init(&attr);
    ::pthread_attr_setstacksize(&attr, base::asan || base::tsan ? 2 << 20 : 256 << 10);
    // Held until the thread is on the list: a stop must see every thread that exists.
    rt.machines_lock.lock();
    int rc = ::pthread_create(&m->thread, &attr, machine_main, m);
    if (rc == 0) {
        m->next_all = rt.machines;
        rt.machines = m;
    }
    rt.machines_lock.unlock();
    ::pthread_attr_destroy(&attr);
    if (rc != 0) fatal("cannot start a thread: " + std::string(::strerror(rc)));
}

} // namespace mpg::sched
