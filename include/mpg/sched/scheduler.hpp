// The scheduler's stack: what a machine does without a task.
//
// Everything slow happens here: the global queue, timers, the poller, frozen tasks, stealing, sleeping. switch.hpp has
// what tasks do without coming here. A machine finds a task (find_task.hpp), runs it until it comes back (execute.hpp),
// and when it has no P any more it waits among the spare ones to be given work. This file has that loop, and the making
// of machines.
#pragma once

#include <mpg/sched/execute.hpp>
#include <mpg/sched/find_task.hpp>

#include <cerrno>
#include <cstring>

namespace mpg::sched {

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
    untie(*m);
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
    m->spinlocks = base::spinlocks_held();
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
    ::sigemptyset(&mask);
    ::sigaddset(&mask, preempt_signal); // one that comes late is not for the program's handler
    ::pthread_sigmask(SIG_BLOCK, &mask, nullptr);
    remove_signal_stack(*m);
    set_this_machine(nullptr);
    return nullptr;
}

/// A new thread for m, which is on no list yet. 0 or an error number.
inline int start_thread(runtime_state& rt, machine* m) noexcept {
    ::pthread_attr_t attr;
    ::pthread_attr_init(&attr);
    ::pthread_attr_setstacksize(&attr, base::asan || base::tsan ? 2 << 20 : 256 << 10);
    // Until the thread is on the list: a stop must see every thread that exists. Not machines_lock, which the monitor needs: to
    // make a thread takes locks of the C library, which a frozen task may hold.
    std::lock_guard birth(rt.births_lock);
    int rc = ::pthread_create(&m->thread, &attr, machine_main, m);
    {
        std::lock_guard hold(rt.machines_lock);
        if (rc == 0) {
            m->next_all = rt.machines;
            rt.machines = m;
        } else {
            --rt.thread_count;
        }
    }
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
