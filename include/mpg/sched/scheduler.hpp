// The scheduler's stack: what a machine does without a task.
//
// Everything slow happens here: the global queue, timers, the poller, frozen tasks, stealing, sleeping. switch.hpp has
// what tasks do without coming here.
#pragma once

#include <mpg/sched/preempt.hpp>
#include <mpg/sched/switch.hpp>

#include <cerrno>
#include <cstring>

namespace mpg::sched {

task* stop_step(machine* m);
void give_up(machine* m);

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
        p->m.store(other, std::memory_order_relaxed);
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
    // A locked machine gives its P away before its task can be found by others: who finds it writes m->p. Until the
    // task is published it counts as blocking: the process is not deadlocked meanwhile.
    runtime_state& rt = *m->rt;
    rt.blocking_count.fetch_add(1, std::memory_order_acq_rel);
    if (processor* p = std::exchange(m->p, nullptr)) start_machine(rt, p, nullptr, false);
    run_finish(m);
    no_longer_blocking(rt);
    return false;
}

/// A share of the global queue; the first is returned, the rest goes to the ring.
inline task* take_global(runtime_state& rt, processor& p) noexcept {
    for (unsigned tries = 0; tries < 1000; ++tries) {
        const std::size_t size = rt.global.size();
        if (size == 0) break;
        task* some[64];
        std::size_t want = std::min<std::size_t>(size / rt.ps.size() + 1, 64);
        std::size_t n = rt.global.pop(p.tokens, some, want);
        if (n == 0) {
            base::cpu_relax(); // not linearizable: what was counted will appear; but who pushes it may be held up
            continue;
        }
        for (std::size_t i = 1; i < n; ++i) push_ring(p, some[i]);
        return some[0];
    }
    return nullptr;
}

/// Under p's poll_lock.
inline int poll_once(processor& p, base::nanos until) noexcept {
    const int n = p.poll->poll(until);
    bump(p.polls);
    p.polled.store(p.polled.load(std::memory_order_relaxed) + static_cast<unsigned>(n), std::memory_order_relaxed);
    return n;
}

/// Polls p's poller without waiting, unless another machine does. The caller need not hold p.
inline int reap(machine* m, processor& p, base::nanos until = 0) noexcept {
    if (!p.poll_lock.try_lock()) return 0;
    m->polling = true;
    int n = poll_once(p, until);
    m->polling = false;
    p.poll_lock.unlock();
    return n;
}

/// What one who looks for work has seen of the other Ps.
struct outlook {
    std::vector<std::uint64_t> marks; // of rings of one, from the last look
    unsigned moving = 0;              // looks in a row that met a ring of one, and another one than the time before
};

/// One look at the other Ps: their rings, due timers and completions. A single task is taken only if it has been lying
/// since the last look, for its owner will mostly run or join it at once.
inline task* steal(machine* m, outlook& seen, base::nanos now) noexcept {
    bool moves = false;
    runtime_state& rt = *m->rt;
    processor& p = *m->p;
    auto n = static_cast<std::uint32_t>(rt.ps.size());
    std::uint32_t start = m->random.below(n);
    for (std::uint32_t i = 0; i < n; ++i) {
        processor& victim = *rt.ps[(start + i) % n];
        if (&victim == &p) continue;
        if (std::uint32_t size = victim.ring.size()) {
            const std::uint64_t mark = victim.ring.mark();
            if (size > 1 || seen.marks[victim.index] == mark) {
                task* some[run_queue::capacity];
                std::uint32_t got = victim.ring.steal(some);
                if (got != 0) {
                    bump(p.steals);
                    probe::steal(rt, p, victim, got);
                    for (std::uint32_t k = 1; k < got; ++k) push_ring(p, some[k]);
                    return some[0];
                }
            }
            moves = true;
            seen.marks[victim.index] = mark;
        }
        if (victim.wheel->next() <= now) victim.wheel->advance(now);
        if (victim.poll->has_work()) reap(m, victim);
        if (task* t = take_local(p)) return t;
    }
    seen.moving = moves ? seen.moving + 1 : 0;
    return nullptr;
}

/// Between two looks. To look costs those who are looked at: so less and less often at one who runs his tasks himself.
inline void pause(const outlook& seen) noexcept {
    for (unsigned i = 8u << std::min(seen.moving, 5u); i != 0; --i) base::cpu_relax();
}

/// Is all that waits one task here and there, behind one that runs?
inline bool only_singles(runtime_state& rt) noexcept {
    if (rt.global.size() != 0 || rt.frozen_count.load(std::memory_order_relaxed) != 0) return false;
    for (auto& p : rt.ps)
        if (p->ring.size() > 1) return false;
    return true;
}

/// A P whose owner always has one more task to run is no reason to watch it all the time, and none to sleep: a task that
/// lies there for longer must be found. m looks again soon; it counts neither as idle nor as searching meanwhile.
inline void nap(machine* m, unsigned longer) noexcept {
    runtime_state& rt = *m->rt;
    processor& p = *m->p;
    if (m->searching) {
        m->searching = false;
        rt.searching.fetch_sub(1, std::memory_order_seq_cst);
    }
    base::fence(std::memory_order_seq_cst); // pairs with: published, which may have left its work to us
    if (!only_singles(rt)) return;
    bump(p.tick); // the monitor need not wonder
    p.poll_lock.lock();
    m->polling = true;
    poll_once(p, std::min(p.wheel->next(), base::now() + (base::nanos{25'000} << longer)));
    m->polling = false;
    p.poll_lock.unlock();
}

/// How long tasks may hand over to each other by runnext while others wait in the ring: short, since these wait for all
/// of it; but an eighth of what the chain before had, lest one that computes between its hand-overs get many times more.
inline constexpr base::nanos least_chain = 100'000, most_chain = 2'000'000;

/// The next of a chain goes to the back of the ring. Owner of p.
inline void end_chain(processor& p, base::nanos now) noexcept {
    p.last_chain = p.chain_since == 0 ? 0 : now - p.chain_since;
    p.chain_since = now;
    if (task* t = p.runnext.load(std::memory_order_relaxed)) {
        p.runnext.store(nullptr, std::memory_order_relaxed);
        push_ring(p, t);
    }
}

/// The next task for m, which holds a P, of any kind; sleeps while there is none. Null: it holds no P any more.
inline task* find_any_task(machine* m) {
    runtime_state& rt = *m->rt;
    processor& p = *m->p;
    constexpr base::nanos spin = 50'000;
    static thread_local outlook seen; // the scheduler's stack does not migrate
    seen.marks.assign(rt.ps.size(), ~std::uint64_t{0});
    seen.moving = 0;
    base::nanos idle_since = 0;
    unsigned futile = 0; // looks that saw work and could take none
    auto found = [&](task* t) {
        if (idle_since != 0) {
            base::nanos gap = std::min<base::nanos>(base::now() - idle_since, 1'000'000);
            p.idle_gap += (gap - p.idle_gap) / 8;
        }
        stop_searching(m, true);
        return t;
    };
    for (;;) {
        if (p.attention.load(std::memory_order_acquire) & attention::stop) [[unlikely]] {
            stop_searching(m, false);
            if (p.index == 0) return stop_step(m);
            give_up(m);
            return nullptr;
        }
        base::nanos now = base::now();
        p.clock.store(now, std::memory_order_relaxed);
        if (p.wheel->next() <= now) p.wheel->advance(now);
        if ((p.attention.load(std::memory_order_relaxed) & attention::capped) &&
            rt.frozen_count.load(std::memory_order_relaxed) < rt.frozen_most)
            p.attention.fetch_and(~attention::capped, std::memory_order_relaxed);
        if (p.attention.load(std::memory_order_relaxed) & attention::slice) { // who hands over has had its slice
            p.attention.fetch_and(~attention::slice, std::memory_order_relaxed);
            end_chain(p, now);
        }
        if (rt.frozen_count.load(std::memory_order_relaxed) != 0 && now - p.last_thaw >= rt.slice && thaw_one(m, now)) {
            stop_searching(m, true);
            return nullptr;
        }
        if (p.tick.load(std::memory_order_relaxed) % 61 == 0) { // the fair way
            bump(p.tick);
            reap(m, p);
            if (task* t = take_global(rt, p)) return found(t);
            // Who hand over to each other by runnext share one slice; the monitor ends it for those who seldom come by.
            if (std::uint32_t begun = p.slices.load(std::memory_order_relaxed); begun != p.chain_slices) {
                p.chain_slices = begun;
                p.chain_since = now;
            } else if (now - p.chain_since >= std::clamp(p.last_chain / 8, least_chain, most_chain)) {
                end_chain(p, now);
            }
        }
        if (task* t = take_local(p)) return found(t);
        if (p.poll->has_work() && reap(m, p) > 0) {
            if (!p.alone && p.ring.size() > 1) published(rt);
            if (task* t = take_local(p)) return found(t);
        }
        if (task* t = take_global(rt, p)) return found(t);
        if (rt.frozen_count.load(std::memory_order_relaxed) != 0 && thaw_one(m, now)) {
            stop_searching(m, true);
            return nullptr;
        }

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
                pause(seen);
                now = base::now();
                again = rt.global.size() != 0 || p.ring.size() != 0 || p.poll->has_work() ||
                        p.attention.load(std::memory_order_relaxed) != 0 || rt.frozen_count.load(std::memory_order_relaxed) != 0 || p.wheel->next() <= now;
            } while (!again && now < until);
            if (again) continue;
        } else if (m->searching) {
            if (task* t = steal(m, seen, now)) return found(t);
        }

        if (!prepare_sleep(m, p)) {
            idle_since = base::now(); // a ring of one is looked at twice before it is taken
            ++futile;
            if ((futile > 4 || !m->searching) && only_singles(rt)) {
                nap(m, std::min(futile, 5u));
                idle_since -= spin; // one look, and not a spin
            } else if (!m->searching) {
                ::sched_yield(); // another one searches, and will find it
            }
            continue;
        }
        futile = 0;
        check_deadlock(rt);
        p.poll_lock.lock();
        m->polling = true;
        int n = poll_once(p, p.wheel->next());
        m->polling = false;
        p.poll_lock.unlock();
        slept(m, p);
        wake_monitor(rt);
        if (n > 1 && !p.alone && p.ring.size() > 1) published(rt);
    }
}

/// Finds the next task for m, which holds a P; sleeps while there is none. Null: it holds no P any more.
inline task* find_task(machine* m) {
    runtime_state& rt = *m->rt;
    for (unsigned passed_over = 0;; ++passed_over) {
        task* t = find_any_task(m);
        processor* p = m->p;
        if (!t || !p || !(p->attention.load(std::memory_order_relaxed) & attention::capped)) [[likely]] return t;
        // Enough tasks are frozen: one that has not started could become one more.
        if (t->get_state() != task_state::fresh || (p->attention.load(std::memory_order_relaxed) & attention::stop))
            return t;
        rt.global.push(p->tokens, &t, 1);
        if (passed_over > 64 && thaw_one(m, base::now())) return nullptr;
    }
}

/// A machine that is parked, or about to park, onto the list of spare ones.
inline void put_spare(runtime_state& rt, machine* m) noexcept {
    std::lock_guard hold(rt.machines_lock);
    if (std::exchange(m->spare_to_be, false)) --rt.spares_to_be;
    m->next_spare = rt.spare;
    rt.spare = m;
    ++rt.spare_count;
}

/// Waits, without a P, until it is given one, or a task. Everything given comes with one wake.set(), and nothing given
/// is looked at before that was consumed.
inline task* await_work(machine* m) noexcept {
    if (!m->locked) put_spare(*m->rt, m); // a locked one waits for its task, which knows it
    m->wake.wait();
    return std::exchange(m->job, nullptr);
}

inline void machine_loop(machine* m) {
    task* t = std::exchange(m->job, nullptr); // what it was made for
    bool holds = m->p != nullptr;
    while (!m->exit.load(std::memory_order_relaxed)) {
        if (holds && m->relieves) {
            m->relieves = false;
            relief_arrives(m);
        }
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
    ::sigset_t mask = m->rt->signal_mask;
    // Without a stack for it the handler would have to do with what is left of the task's.
    const bool has_signal_stack = install_signal_stack(*m);
    if (m->rt->slice != 0) has_signal_stack ? ::sigdelset(&mask, preempt_signal) : ::sigaddset(&mask, preempt_signal);
    ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    set_this_machine(m);
    m->anchor = fiber::thread_anchor::of_this_thread();
    m->random = base::random(reinterpret_cast<std::uintptr_t>(m) ^ static_cast<std::uint64_t>(base::now()));
    m->in_runtime.store(1, std::memory_order_relaxed);
    m->tid.store(::gettid(), std::memory_order_release); // pairs with: monitor::look_at
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
    remove_signal_stack(*m);
    set_this_machine(nullptr);
    return nullptr;
}

/// A new thread for m, which is on no list yet. 0 or an error number.
inline int start_thread(runtime_state& rt, machine* m) noexcept {
    ::pthread_attr_t attr;
    ::pthread_attr_init(&attr);
    ::pthread_attr_setstacksize(&attr, base::asan || base::tsan ? 2 << 20 : 256 << 10);
    // Held until the thread is on the list: a stop must see every thread that exists.
    rt.machines_lock.lock();
    int rc = ::pthread_create(&m->thread, &attr, machine_main, m);
    if (rc == 0) {
        m->next_all = rt.machines;
        rt.machines = m;
    } else {
        --rt.thread_count;
    }
    rt.machines_lock.unlock();
    ::pthread_attr_destroy(&attr);
    return rc;
}

/// A parked machine off the list of spare ones, or null.
inline machine* take_spare(runtime_state& rt) noexcept {
    std::lock_guard hold(rt.machines_lock);
    machine* m = rt.spare;
    if (m) {
        rt.spare = m->next_spare;
        --rt.spare_count;
    }
    return m;
}
/// Adds a thread that parks, if there is none and one may be had. 0, or why none could be had.
inline int ensure_spare(runtime_state& rt) noexcept {
    machine* m;
    {
        std::lock_guard hold(rt.machines_lock);
        if (rt.spare || rt.spares_to_be != 0) return 0;
        if (rt.thread_count >= rt.opts.max_threads) return EUSERS;
        ++rt.thread_count;
        ++rt.spares_to_be;
    }
    m = new (std::nothrow) machine;
    int rc = ENOMEM;
    if (m) {
        m->rt = &rt;
        m->spare_to_be = true;
        if ((rc = start_thread(rt, m)) == 0) return 0;
        delete m;
    }
    std::lock_guard hold(rt.machines_lock);
    if (!m) --rt.thread_count;
    --rt.spares_to_be;
    return rc;
}

/// Gives p (or the blocking task) to a parked machine, or to a new one. relieves: p was taken from a running task.
inline void start_machine(runtime_state& rt, processor* p, task* job, bool searching, bool relieves) {
    machine* m = take_spare(rt);
    bool fresh = !m;
    if (fresh) {
        {
            std::lock_guard hold(rt.machines_lock);
            if (rt.thread_count >= rt.opts.max_threads)
                fatal("thread limit of " + std::to_string(rt.opts.max_threads) + " reached");
            ++rt.thread_count;
        }
        m = new (std::nothrow) machine;
        if (!m) no_memory("one more thread");
        m->rt = &rt;
    }
    if (p) {
        m->searching = searching;
        m->relieves = relieves;
        m->p = p;
        p->m.store(m, std::memory_order_release); // pairs with: the monitor's look at p
    }
    m->job = job;
    if (p) {
        probe::handoff(rt, *p, *m);
        wake_monitor(rt);
    }
    if (!fresh) return m->wake.set();
    if (int rc = start_thread(rt, m); rc != 0) fatal("cannot start a thread: " + std::string(::strerror(rc)));
}

} // namespace mpg::sched
