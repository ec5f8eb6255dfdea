// Who goes first where tasks compute.
//
// A ring is served in the order of arrival. With tasks of microseconds that is fair; but where each of them takes a slice
// of 10 ms, one that a timer, the network or a foreign thread has woken would stand behind all of them for as many slices,
// although most of these compute little, and somebody waits for them. So when the scheduler has not been visited for
// `slow_visit` those that the world has woken go to the front of the ring, the oldest first; all others keep their order.
//
// Nobody starves. At every other such visit the oldest of the others stands before all, so that they have half of these
// slices however many are woken; and between two such visits the order is that of arrival. One that is frozen has lost its
// precedence, and frozen tasks are no concern of the ring (preempt.hpp). Where tasks are short none of this happens.
//
// Rejected: the same for those that other tasks have woken. In a ring they cannot be told from those that have yielded,
// who must not go before anybody. Go has runnext for one that a timer wakes, and for all others the order of arrival.
#pragma once

#include <mpg/sched/ready.hpp>

namespace mpg::sched {

inline constexpr base::nanos slow_visit = 2'500'000;

/// Owner of p. others_first: the oldest of those that the world has not woken stands before all. True: the first one is one
/// that it has.
inline bool put_in_order(processor& p, bool others_first) noexcept {
    // Who comes after this stands for the next time.
    p.by_world.store(false, std::memory_order_relaxed);
    task *woken[run_queue::capacity], *others[run_queue::capacity];
    std::uint32_t n_woken = 0, n_others = 0;
    for (std::uint32_t n = 0; n < run_queue::capacity; ++n) {
        task* t = p.ring.pop(p.alone);
        if (!t) break;
        (t->by_world ? woken[n_woken++] : others[n_others++]) = t;
    }
    others_first &= n_others != 0;
    if (others_first) push_ring(p, others[0]);
    for (std::uint32_t i = 0; i < n_woken; ++i) push_ring(p, woken[i]);
    for (std::uint32_t i = others_first; i < n_others; ++i) push_ring(p, others[i]);
    if (n_woken + n_others != 0 && !p.alone) published(*p.rt); // who has looked meanwhile has seen none
    return n_woken != 0 && !others_first;
}

/// Does anybody wait that goes first? A hint, for the monitor.
inline bool awaited(processor& p, base::nanos now) noexcept {
    return p.by_world.load(std::memory_order_relaxed) || p.wheel->next() <= now || p.poll->has_work() ||
           p.rt->global.foreign_came();
}

} // namespace mpg::sched
