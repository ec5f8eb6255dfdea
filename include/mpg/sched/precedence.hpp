// Who goes first where tasks compute.
//
// A ring is served in the order of arrival. With tasks of microseconds that is fair; but where each of them takes a slice
// of 10 ms, one that a timer, the network or a foreign thread has woken would stand behind all of them for as many slices,
// although most of these compute little, and somebody waits for them. So when the scheduler has not been visited for
// `slow_visit` those that the world has woken go to the front of the ring, the oldest first; all others keep their order.
//
// Who is known to compute does not go first: each wake-up by the world raises a task's standing by one, and when it is
// frozen it has none. One with a high standing (a ticker) goes before one that was woken for the first time.
//
// Nobody starves. After a slice of one that did not go first those go first who may; else at every other such visit the
// oldest of the others stands before all, so that they have half of these slices however many are woken. Between two such
// visits the order is that of arrival. Frozen tasks are no concern of the ring (preempt.hpp).
//
// Rejected: the same for those that other tasks have woken. In a ring they cannot be told from those that have yielded,
// who must not go before anybody. Go has runnext for one that a timer wakes, and for all others the order of arrival.
#pragma once

#include <mpg/sched/ready.hpp>

namespace mpg::sched {

inline constexpr base::nanos slow_visit = 2'500'000;

/// Owner of p. others_first: the oldest of those that do not go first stands before all. True: somebody goes first.
inline bool put_in_order(processor& p, bool others_first) noexcept {
    task* kinds[3][run_queue::capacity]; // proven, first, others
    std::uint32_t count[3] = {};
    for (std::uint32_t n = 0; n < run_queue::capacity; ++n) {
        task* t = p.ring.pop(p.alone);
        if (!t) break;
        const unsigned kind = t->standing == standing::proven ? 0 : t->standing == standing::first ? 1 : 2;
        kinds[kind][count[kind]++] = t;
    }
    const bool some = count[0] + count[1] != 0;
    p.awaited.store(some, std::memory_order_relaxed);
    std::uint32_t before = 0;
    if (others_first && count[2] != 0) push_ring(p, kinds[2][before++]);
    for (unsigned kind = 0; kind < 3; ++kind)
        for (std::uint32_t i = kind == 2 ? before : 0; i < count[kind]; ++i) push_ring(p, kinds[kind][i]);
    if (p.ring.size() != 0 && !p.alone) published(*p.rt); // who has looked meanwhile has seen none
    return some;
}

/// Does anybody wait that goes first, or that the running task has woken? A hint, for the monitor.
inline bool awaited(processor& p, base::nanos now) noexcept {
    return p.awaited.load(std::memory_order_relaxed) || p.runnext.load(std::memory_order_relaxed) || p.wheel->next() <= now ||
           p.poll->has_work() || p.rt->global.foreign_came();
}

} // namespace mpg::sched
