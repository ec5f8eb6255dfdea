// How a runtime ends.
//
//   1. stopping is set: go() starts nothing more, suspensions throw unwound. Every P's attention is raised.
//   2. Each machine, at its next scheduling point, gives its tasks to the global queue and its P up; P 0 stays. From
//      then on one machine runs all that is left, so a parked task stays parked while the stop looks at it.
//   3. Parked tasks are withdrawn from what they wait for (park_ops::abort, under the primitive's lock, since foreign
//      threads and other runtimes go on) and resumed; unstarted ones only destroy their closure. Operations in
//      flight are cancelled by their abort and come back by their own completion.
//   4. When no task is left, all machines are told to leave, and are joined.
// A task that computes meanwhile is frozen, and gets its turn on P 0 like the others, which it must end by a suspension.
// What has made no progress for the grace time is reported with a list of tasks, and its memory is left alone.
#pragma once

#include <mpg/sched/start_monitor.hpp>
#include <mpg/sched/unwind.hpp>

namespace mpg::sched {

inline constexpr base::nanos stop_grace = 5'000'000'000;

/// m's P ends; its tasks go to P 0 by way of the global queue.
inline void give_up(machine* m) {
    runtime_state& rt = *m->rt;
    processor& p = *m->p;
    while (task* t = take_local(p)) rt.global.push(t);
    m->p = nullptr;
    {
        std::lock_guard hold(rt.idle_lock);
        p.stopped = true;
        p.m.store(nullptr, std::memory_order_relaxed);
    }
    rt.stopped_ps.fetch_add(1, std::memory_order_release); // pairs with: stop_step
    rt.ps[0]->poll->wake();
}

/// Resumes every parked task that can be withdrawn. On P 0, the others being stopped.
inline std::size_t withdraw_all(runtime_state& rt) noexcept {
    std::size_t n = 0;
    for_each_task(rt, [&](task& t) {
        // acquire: pairs with park_without_p
        if (t.state.load(std::memory_order_acquire) != task_state::waiting || t.no_unwind != 0 || t.ex.exceptions.uncaught != 0) return;
        if (!t.wait || !t.wait->abort || !t.wait->abort(t.wait_arg)) return;
        t.withdrawn.store(true, std::memory_order_relaxed);
        ready_later(&t);
        ++n;
    });
    return n;
}

/// The scheduler of P 0 while its runtime stops. Null: all is done.
inline task* stop_step(machine* m) {
    runtime_state& rt = *m->rt;
    processor& p = *m->p;
    for (;;) {
        base::nanos now = base::now();
        if (std::uint64_t live = rt.live(); live != rt.stop_live || rt.stop_since == 0) {
            rt.stop_live = live;
            rt.stop_since = now;
        }
        for (auto& other : rt.ps) {
            if (other->wheel->next() <= now) other->wheel->advance(now);
            reap(m, *other);
        }
        task* t = take_local(p);
        if (!t) t = take_global(rt, p);
        if (t) {
            rt.stop_since = 0; // progress
            return t;
        }
        bool alone = rt.stopped_ps.load(std::memory_order_acquire) + 1 == rt.ps.size(); // pairs with: give_up
        if (alone) {
            if (rt.live() == 0) {
                m->p = nullptr;
                rt.stopped.set();
                return nullptr;
            }
            if (withdraw_all(rt) != 0) continue;
        }
        if (now - rt.stop_since > stop_grace) {
            write_all(2, "mpg: these tasks did not end when their runtime stopped:\n" + list_tasks(rt));
            rt.abandoned.store(true, std::memory_order_release);
            m->p = nullptr;
            rt.stopped.set();
            return nullptr;
        }
        if (thaw_one(m, now)) return nullptr; // user code that computes, until it comes to a suspension
        p.poll_lock.lock();
        m->polling = true;
        p.poll->poll(now + 1'000'000);
        m->polling = false;
        p.poll_lock.unlock();
    }
}

/// After its removal from the registry: waits until nobody looks at it from outside any more. They do so briefly.
inline void await_unpinned(runtime_state& rt) noexcept {
    constexpr ::timespec moment{0, 50'000};
    while (rt.pins.load(std::memory_order_acquire) != 0) ::nanosleep(&moment, nullptr); // pairs with: unpin
}

/// Ends all tasks and machines. From a thread that is none of rt's. Afterwards rt may be deleted unless abandoned.
inline void stop_runtime(runtime_state& rt) {
    if (rt.forked.load(std::memory_order_relaxed)) { // there is nothing to end; its memory stays as it is
        rt.abandoned.store(true, std::memory_order_relaxed);
        return;
    }
    rt.stopping.store(true, std::memory_order_seq_cst);
    registry::instance().remove(rt);
    for (auto& p : rt.ps) p->attention.fetch_or(attention::stop, std::memory_order_seq_cst);
    bool start_first = false;
    {
        std::lock_guard hold(rt.idle_lock);
        for (auto& p : rt.ps) {
            if (!p->idle || p->m.load(std::memory_order_relaxed)) continue;
            for (processor** at = &rt.idle_list; *at; at = &(*at)->next_idle) // bare: nobody will give it up
                if (*at == p.get()) {
                    *at = p->next_idle;
                    break;
                }
            p->idle = false;
            rt.idle_count.fetch_sub(1, std::memory_order_seq_cst);
            if (p->index == 0) {
                start_first = true;
            } else {
                p->stopped = true;
                rt.stopped_ps.fetch_add(1, std::memory_order_release);
            }
        }
    }
    if (start_first) start_machine(rt, rt.ps[0].get(), nullptr, false);
    for (auto& p : rt.ps) p->poll->wake();
    wake_monitor(rt);
    rt.stopped.wait();
    stop_monitor(rt);
    stop_reporter(rt);
    if (rt.abandoned.load(std::memory_order_acquire)) return;

    // Every machine is parked, or about to park; none will be started any more.
    machine* all;
    {
        std::lock_guard births(rt.births_lock);
        std::lock_guard hold(rt.machines_lock);
        all = rt.machines;
    }
    for (machine* m = all; m; m = m->next_all) {
        m->exit.store(true, std::memory_order_relaxed);
        m->wake.set();
    }
    for (machine* m = all; m; m = m->next_all) ::pthread_join(m->thread, nullptr);
    await_unpinned(rt);
}

} // namespace mpg::sched
