// Who sleeps, who searches, and why no work is left lying.
//
// A P without work goes on the idle list; its machine sleeps in the P's poller (or the P is bare: it has no machine).
// A machine that has no work but still looks for some is *searching*; at most one is, and `searching` counts it.
//
//   publisher: makes work visible (ring, global queue); fence; if a P is idle and nobody searches: wake one.
//   sleeper:   goes on the idle list, stops searching; fence; looks at every queue again; sleeps only if all are empty.
//
// With both fences sequentially consistent, either the publisher sees the sleeper's P on the list, or the sleeper
// sees the work. If somebody searches, the publisher leaves it to that one: it looks at everything before it goes to
// sleep (the same argument), and when it stops searching because it found something, it wakes the next if more is
// left. A wake takes the P off the list, under idle_lock, and counts its machine as searching before it runs.
#pragma once

#include <mpg/sched/fatal.hpp>
#include <mpg/sched/runtime_state.hpp>

namespace mpg::sched {

void start_machine(runtime_state& rt, processor* p, task* job, bool searching);

/// Puts p on the idle list. Caller: the machine that holds p.
inline void enter_idle(runtime_state& rt, processor& p) noexcept {
    std::lock_guard hold(rt.idle_lock);
    p.idle = true;
    p.next_idle = rt.idle_list;
    rt.idle_list = &p;
    rt.idle_count.fetch_add(1, std::memory_order_seq_cst);
}

/// Takes p off the idle list. False: somebody else has, to wake it.
inline bool leave_idle(runtime_state& rt, processor& p) noexcept {
    std::lock_guard hold(rt.idle_lock);
    if (!p.idle) return false;
    for (processor** at = &rt.idle_list; *at; at = &(*at)->next_idle)
        if (*at == &p) {
            *at = p.next_idle;
            break;
        }
    p.idle = false;
    rt.idle_count.fetch_sub(1, std::memory_order_seq_cst);
    return true;
}

/// Takes p off the idle list if it is bare; then the caller may give it to a machine.
inline bool leave_bare(runtime_state& rt, processor& p) noexcept {
    std::lock_guard hold(rt.idle_lock);
    if (!p.idle || p.m.load(std::memory_order_relaxed)) return false;
    for (processor** at = &rt.idle_list; *at; at = &(*at)->next_idle)
        if (*at == &p) {
            *at = p.next_idle;
            break;
        }
    p.idle = false;
    rt.idle_count.fetch_sub(1, std::memory_order_seq_cst);
    return true;
}

/// After something was put into p's wheel or poller by somebody who does not hold p: makes a machine look at it.
inline void serve(processor& p) noexcept {
    if (leave_bare(*p.rt, p))
        start_machine(*p.rt, &p, nullptr, false);
    else
        p.poll->wake();
}

/// Wakes one idle P unless somebody searches. After the fence of a publisher.
MPG_NOINLINE inline void wake_one(runtime_state& rt) noexcept {
    std::uint32_t none = 0;
    if (!rt.searching.compare_exchange_strong(none, 1, std::memory_order_seq_cst)) return;
    processor* p;
    bool bare = false;
    {
        std::lock_guard hold(rt.idle_lock);
        p = rt.idle_list;
        if (p) {
            rt.idle_list = p->next_idle;
            p->idle = false;
            rt.idle_count.fetch_sub(1, std::memory_order_seq_cst);
            bare = p->m.load(std::memory_order_relaxed) == nullptr;
        }
    }
    if (!p)
        rt.searching.fetch_sub(1, std::memory_order_seq_cst); // all Ps are busy: they look before they sleep
    else if (bare)
        start_machine(rt, p, nullptr, true);
    else
        p->poll->wake();
}

/// After work was published.
MPG_ALWAYS_INLINE void published(runtime_state& rt) noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst); // pairs with: the sleeper's
    if (rt.idle_count.load(std::memory_order_relaxed) != 0 && rt.searching.load(std::memory_order_relaxed) == 0)
        wake_one(rt);
}

/// Is there work that an idle P could take?
inline bool work_visible(runtime_state& rt) noexcept {
    if (rt.global.size() != 0) return true;
    for (auto& p : rt.ps)
        if (p->ring.size() != 0) return true;
    return false;
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
    if (rt.blocking_count.load(std::memory_order_acquire) != 0 || work_visible(rt)) return false;
    for (auto& p : rt.ps)
        if (p->wheel->next() != base::never || p->poll->busy() || p->poll->has_work()) return false;
    return true;
}

/// Called with the machine's P on the idle list, before it sleeps: can anything ever wake a task?
inline void check_deadlock(runtime_state& rt) noexcept {
    if (!rt.opts.detect_deadlock || rt.stopping.load(std::memory_order_relaxed)) return;
    if (rt.waiting_callers.load(std::memory_order_acquire) == 0) return; // somebody may still call go()
    if (!all_asleep(rt) || rt.live() == 0) return;
    std::size_t own;
    {
        std::lock_guard hold(rt.machines_lock);
        own = rt.thread_count;
    }
    own += rt.waiting_callers.load(std::memory_order_acquire) + (base::tsan ? 1 : 0);
    std::size_t all = process_threads();
    if (all == 0 || all > own) return; // a foreign thread might still send
    // What a thread did before it ended is visible now: only this second look counts.
    if (!all_asleep(rt) || rt.waiting_callers.load(std::memory_order_acquire) == 0 || rt.live() == 0) return;
    write_all(2, "fatal error: all tasks are asleep - deadlock!\n\n" + list_tasks(rt));
    ::_exit(2);
}

} // namespace mpg::sched
