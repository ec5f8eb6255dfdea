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
// left. (It may shut its eyes for a fraction of a millisecond in between, see doze.) A wake takes the P off the list, under
// idle_lock, and counts its machine as searching before it runs.
//
// The functions are templates for the model checker (tests/model), which runs them with a few Ps of its own.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/config.hpp>

#include <cstdint>
#include <mutex>

namespace mpg::sched {

/// Puts p on the idle list. Caller: the machine that holds p.
template <class Runtime, class Processor> void enter_idle(Runtime& rt, Processor& p) noexcept {
    std::lock_guard hold(rt.idle_lock);
    p.idle = true;
    p.next_idle = rt.idle_list;
    rt.idle_list = &p;
    rt.idle_count.fetch_add(1, std::memory_order_seq_cst);
}

/// Caller: holds idle_lock, and p is on the list.
template <class Runtime, class Processor> void unlink_idle(Runtime& rt, Processor& p) noexcept {
    for (Processor** at = &rt.idle_list; *at; at = &(*at)->next_idle)
        if (*at == &p) {
            *at = p.next_idle;
            break;
        }
    p.idle = false;
    rt.idle_count.fetch_sub(1, std::memory_order_seq_cst);
}

/// Takes p off the idle list. False: somebody else has, to wake it.
template <class Runtime, class Processor> bool leave_idle(Runtime& rt, Processor& p) noexcept {
    std::lock_guard hold(rt.idle_lock);
    if (!p.idle) return false;
    unlink_idle(rt, p);
    return true;
}

/// Takes p off the idle list if it is bare; then the caller may give it to a machine.
template <class Runtime, class Processor> bool leave_bare(Runtime& rt, Processor& p) noexcept {
    std::lock_guard hold(rt.idle_lock);
    if (!p.idle || p.m.load(std::memory_order_relaxed)) return false;
    unlink_idle(rt, p);
    return true;
}

/// Wakes one idle P unless somebody searches. After the fence of a publisher. may_start: a bare one, too, for which a thread may
/// have to be made.
template <class Runtime> MPG_NOINLINE void wake_one(Runtime& rt, bool may_start = true) noexcept {
    std::uint32_t none = 0;
    if (!rt.searching.compare_exchange_strong(none, 1, std::memory_order_seq_cst)) return;
    decltype(rt.idle_list) p;
    bool bare = false;
    {
        std::lock_guard hold(rt.idle_lock);
        p = rt.idle_list;
        if (!may_start)
            while (p && p->m.load(std::memory_order_relaxed) == nullptr) p = p->next_idle;
        if (p) {
            unlink_idle(rt, *p);
            bare = p->m.load(std::memory_order_relaxed) == nullptr;
        } else {
            // All other Ps are busy: they look before they sleep. Still under the lock: once a P has gone on the
            // list and looked, no publisher may take us for a searcher and leave its work to us, who do not
            // look.
            rt.searching.fetch_sub(1, std::memory_order_seq_cst);
        }
    }
    if (!p) return;
    if (bare)
        start_machine(rt, p, nullptr, true);
    else
        p->poll->wake();
}

/// After work was published.
template <class Runtime> MPG_ALWAYS_INLINE void published(Runtime& rt) noexcept {
    base::fence(std::memory_order_seq_cst); // pairs with: prepare_sleep, and the one in blocking
    if (rt.idle_count.load(std::memory_order_relaxed) != 0 &&
        rt.searching.load(std::memory_order_relaxed) == 0)
        wake_one(rt);
}

/// Is there work that an idle P could take?
template <class Runtime> bool work_visible(Runtime& rt) noexcept {
    if (rt.global.size() != 0) return true;
    if constexpr (requires { rt.frozen_count; }) // the model has no frozen tasks
        if (rt.frozen_count.load(std::memory_order_seq_cst) != 0) return true;
    for (auto& p : rt.ps)
        if (p->ring.size() != 0) return true;
    return false;
}

/// A searching machine has found work, or gives up: if there is more, somebody else should look for it.
template <class Machine> void stop_searching(Machine* m, bool found) noexcept {
    if (!m->searching) return;
    auto& rt = *m->rt;
    m->searching = false;
    rt.searching.fetch_sub(1, std::memory_order_seq_cst);
    if (!found) return;
    base::fence(std::memory_order_seq_cst); // pairs with: published; who has left its work to us is seen now
    if (rt.idle_count.load(std::memory_order_relaxed) != 0 && work_visible(rt)) wake_one(rt);
}

/// The sleeper's steps, when a look at everything has found nothing. True: sleep, and then call slept. False:
/// look again, and if the machine is not searching now, another one is.
template <class Machine, class Processor> bool prepare_sleep(Machine* m, Processor& p) noexcept {
    auto& rt = *m->rt;
    enter_idle(rt, p);
    if (m->searching) {
        m->searching = false;
        rt.searching.fetch_sub(1, std::memory_order_seq_cst);
    }
    base::fence(std::memory_order_seq_cst); // pairs with: published
    if (!work_visible(rt) && !p.called()) return true;
    if (leave_idle(rt, p)) {
        std::uint32_t none = 0;
        m->searching = rt.searching.compare_exchange_strong(none, 1, std::memory_order_seq_cst);
    } else {
        m->searching = true; // woken meanwhile, and counted
    }
    return false;
}
/// After the sleep, whatever ended it.
template <class Machine, class Processor> void slept(Machine* m, Processor& p) noexcept {
    if (!leave_idle(*m->rt, p)) m->searching = true; // taken off the list by a wake, which has counted us
}

} // namespace mpg::sched
