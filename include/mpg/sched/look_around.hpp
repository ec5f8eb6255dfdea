// Where a machine whose own queues are empty looks: the global queue, the pollers, the other Ps.
#pragma once

#include <mpg/sched/switch.hpp>

#include <algorithm>
#include <vector>

namespace mpg::sched {

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

/// By m, under p's poll_lock.
inline int poll_once(machine* m, processor& p, base::nanos until) noexcept {
    m->polling = true;
    m->stamped = false;
    const int n = p.poll->poll(until);
    m->polling = false;
    bump(p.polls);
    p.polled.store(p.polled.load(std::memory_order_relaxed) + static_cast<unsigned>(n), std::memory_order_relaxed);
    return n;
}

/// Polls p's poller without waiting, unless another machine does. The caller need not hold p.
inline int reap(machine* m, processor& p, base::nanos until = 0) noexcept {
    if (!p.poll_lock.try_lock()) return 0;
    int n = poll_once(m, p, until);
    p.poll_lock.unlock();
    return n;
}

/// What one who looks for work has seen of the other Ps.
///
/// To take a task away is worth it when it keeps the thief busy for longer than its way takes: its record, its stack, and what it
/// shares with those it talks to come from another CPU, then and at each hand-over. Tasks that wake each other follow each other
/// to one P, and from there a thief would scatter them again and again. So one whose prey has not lasted several times in a row
/// leaves small rings to their owners for a while, and then takes once more. Who stands behind one that computes for long waits
/// for that while at most; a ring that has grown is helped at the next look, and prey that lasts ends it.
struct outlook {
    struct view {
        std::uint64_t mark = ~std::uint64_t{0}; // of the ring, at the last look
        base::nanos since = 0;                  // of what follows
        std::uint32_t slices = 0;
        std::uint64_t ended = 0;
        bool brisk = false;
    };
    std::vector<view> of; // by index of the P
    unsigned moving = 0;  // looks in a row that met rings from which something had gone since the time before
    base::nanos taken = 0;      // when something was last taken from a ring; 0: nothing since there was nothing to do
    unsigned poor = 0;          // how many times in a row that did not last
    base::nanos wait_until = 0; // small rings are left alone

    bool fruitless() const noexcept { return poor > 3; }
    static bool small(std::uint32_t ring) noexcept { return ring <= 8; }

    /// There is nothing to do.
    void begin(std::size_t ps, base::nanos now) {
        constexpr base::nanos worth = 5'000, wait = 50'000;
        if (taken != 0) {
            poor = now - taken < worth ? poor + 1 : 0;
            taken = 0;
        }
        wait_until = fruitless() ? now + wait : 0;
        if (of.size() != ps) of.resize(ps);
        for (view& v : of) v.mark = ~std::uint64_t{0};
        moving = 0;
    }
};

/// Does p, of which v is known, start and end tasks from its ring so quickly that to take some away, with their records and
/// what they write to, costs more than to run them? Found anew every 200 us: so long may others wait behind one that is long
/// after all.
inline bool is_brisk(const processor& p, outlook::view& v, base::nanos now) noexcept {
    constexpr base::nanos window = 200'000, each = 160;
    if (now - v.since < window) return v.brisk;
    const std::uint32_t slices = p.slices.load(std::memory_order_relaxed);
    const std::uint64_t ended = p.ended.load(std::memory_order_relaxed);
    const std::uint32_t begun = slices - v.slices;
    v.brisk = v.since != 0 && std::int64_t{begun} * each >= now - v.since && (ended - v.ended) * 2 >= begun;
    v.since = now;
    v.slices = slices;
    v.ended = ended;
    return v.brisk;
}

/// One look at the other Ps: their rings, due timers and completions. A single task is taken only if it has been lying
/// since the last look, for its owner will mostly run or join it at once; of a brisk P, none.
inline task* steal(machine* m, outlook& seen, base::nanos now) noexcept {
    bool moves = false;
    runtime_state& rt = *m->rt;
    processor& p = *m->p;
    auto n = static_cast<std::uint32_t>(rt.ps.size());
    std::uint32_t start = m->random.below(n);
    for (std::uint32_t i = 0; i < n; ++i) {
        processor& victim = *rt.ps[(start + i) % n];
        if (&victim == &p) continue;
        outlook::view& v = seen.of[victim.index];
        const std::uint64_t mark = victim.ring.mark();
        const bool moved = v.mark != mark;
        if (std::uint32_t size = victim.ring.size()) {
            const bool later = now < seen.wait_until && outlook::small(size);
            if (!later && (size > 1 ? !is_brisk(victim, v, now) : !moved)) {
                task* some[run_queue::capacity];
                std::uint32_t got = victim.ring.steal(some);
                if (got != 0) {
                    seen.taken = now;
                    bump(p.steals);
                    probe::steal(rt, p, victim, got);
                    for (std::uint32_t k = 1; k < got; ++k) push_ring(p, some[k]);
                    if (victim.awaited.load(std::memory_order_relaxed)) p.awaited.store(true, std::memory_order_relaxed);
                    return some[0];
                }
            }
            moves = true;
        }
        moves |= moved;
        v.mark = mark;
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

/// Does whoever has work run it himself, so that there is nothing to be taken from him?
inline bool left_alone(runtime_state& rt, const outlook& seen) noexcept {
    if (rt.global.size() != 0 || rt.frozen_count.load(std::memory_order_relaxed) != 0) return false;
    for (auto& p : rt.ps)
        if (const auto n = p->ring.size(); n > 1 && !seen.of[p->index].brisk && !(seen.fruitless() && outlook::small(n))) return false;
    return true;
}

/// m, which searches, looks again soon, and goes on searching: nobody else is woken for work that its owners run. So what
/// they cannot run at once after all waits for so long; but what comes from outside ends it.
inline void doze(machine* m, base::nanos time) noexcept {
    runtime_state& rt = *m->rt;
    processor& p = *m->p;
    bump(p.tick); // the monitor need not wonder
    rt.dozer.store(&p, std::memory_order_relaxed);
    base::fence(std::memory_order_seq_cst); // pairs with: inject
    if (rt.global.size() == 0 && !p.called()) {
        p.poll_lock.lock();
        poll_once(m, p, std::min(p.wheel->next(), base::now() + time));
        p.poll_lock.unlock();
    }
    rt.dozer.store(nullptr, std::memory_order_relaxed);
}

/// Is all that waits one task here and there, behind one that runs?
inline bool only_singles(runtime_state& rt) noexcept {
    if (rt.global.size() != 0 || rt.frozen_count.load(std::memory_order_relaxed) != 0) return false;
    for (auto& p : rt.ps)
        if (p->ring.size() > 1) return false;
    return true;
}

/// A P whose owner always has one more task to run is no reason to watch it all the time, and none to sleep: a task that
/// lies there for longer must be found. m looks again soon, unlike in doze as one that counts neither as idle nor as
/// searching meanwhile.
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
    poll_once(m, p, std::min(p.wheel->next(), base::now() + (base::nanos{25'000} << longer)));
    p.poll_lock.unlock();
}

} // namespace mpg::sched
