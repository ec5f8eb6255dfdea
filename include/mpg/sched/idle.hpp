// What follows from idleness: serving a P without a machine, and deadlock. The protocol itself: idle_list.hpp.
#pragma once

#include <mpg/sched/fatal.hpp>
#include <mpg/sched/frozen.hpp>
#include <mpg/sched/runtime_state.hpp>
#include <mpg/sched/stall.hpp>

namespace mpg::sched {

void start_machine(runtime_state& rt, processor* p, task* job, bool searching, bool relieves = false);

/// A P has got something to do: somebody must watch it. After the P has left the idle list.
inline void wake_monitor(runtime_state& rt) noexcept {
    if (rouses_monitor(rt)) futex_wake(rt.monitor_word);
}

/// After something was put into p's wheel or poller by somebody who does not hold p: makes a machine look at it.
inline void serve(processor& p) noexcept {
    if (leave_bare(*p.rt, p))
        start_machine(*p.rt, &p, nullptr, false);
    else
        p.poll->wake();
}

/// A task that was counted in blocking_count is on a queue again, or waits.
inline void no_longer_blocking(runtime_state& rt) noexcept {
    rt.blocking_count.fetch_sub(1, std::memory_order_seq_cst);
    if (rt.idle_count.load(std::memory_order_seq_cst) == rt.ps.size()) rt.ps[0]->poll->wake(); // deadlock? it looks again
}

/// Threads of the whole process; 0: cannot be told.
inline std::size_t process_threads() noexcept {
    std::size_t n = 0;
    if (std::FILE* f = std::fopen("/proc/self/status", "re")) {
        char line[256];
        while (std::fgets(line, sizeof line, f))
            if (std::sscanf(line, "Threads: %zu", &n) == 1) break;
        std::fclose(f);
    }
    return n;
}

/// Is everything asleep, and nothing there that could wake a task?
inline bool all_asleep(runtime_state& rt) noexcept {
    // With the list locked nobody is woken: if all Ps are on it, nothing runs but blocking calls.
    std::lock_guard hold(rt.idle_lock);
    if (rt.idle_count.load(std::memory_order_relaxed) != rt.ps.size()) return false;
    if (!nobody_goes_on(rt)) return false;
    for (auto& p : rt.ps)
        if (p->wheel->armed() != 0 || p->poll->busy() || p->poll->has_work()) return false;
    return true;
}

/// Called with the machine's P on the idle list, before it sleeps: can anything ever wake a task?
inline void check_deadlock(runtime_state& rt) noexcept {
    if (!rt.opts.detect_deadlock || rt.stopping.load(std::memory_order_relaxed)) return;
    if (rt.waiting_callers.load(std::memory_order_acquire) == 0) return; // somebody may still call go()
    if (!all_asleep(rt) || rt.live() == 0) return;
    std::size_t own = 0;
    {
        std::lock_guard hold(rt.machines_lock); // thread_count has those, too, that are still being made
        for (machine* m = rt.machines; m; m = m->next_all) ++own;
    }
    own += rt.waiting_callers.load(std::memory_order_acquire) + (rt.has_monitor ? 1 : 0) + (base::tsan ? 1 : 0);
    if (rt.reporter && rt.reporter->quiet()) ++own;
    std::size_t all = process_threads();
    if (all == 0 || all > own) return; // a foreign thread might still send
    // What a thread did before it ended is visible now: only this second look counts.
    if (!all_asleep(rt) || rt.waiting_callers.load(std::memory_order_acquire) == 0 || rt.live() == 0) return;
    if (rt.deadlock_reported.exchange(true, std::memory_order_acq_rel)) return; // by another thread, which ends the process
    write_all(2, "fatal error: all tasks are asleep - deadlock!\n\n" + list_tasks(rt));
    say_last();
    ::_exit(2);
}

} // namespace mpg::sched
