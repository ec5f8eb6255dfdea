// What a machine runs next: the order in which it looks, fairness between queues, and when it sleeps.
#pragma once

#include <mpg/sched/look_around.hpp>
#include <mpg/sched/precedence.hpp>
#include <mpg/sched/preempt.hpp>

namespace mpg::sched {

task* stop_step(machine* m);
void give_up(machine* m);

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

/// The scheduler has not been visited for long. The task that goes before the frozen ones, too; null: none does.
MPG_NOINLINE inline task* after_long(machine* m, processor& p) noexcept {
    runtime_state& rt = *m->rt;
    reap(m, p);
    task* some[32];
    for (std::size_t n = rt.global.pop_foreign(some, 32), i = 0; i < n; ++i) {
        if (some[i]->get_state() != task_state::fresh) rise(*some[i]);
        push_ring(p, some[i]);
    }
    p.others_turn = !p.others_turn;
    if (!put_in_order(p, p.others_turn) || p.others_turn) return nullptr;
    bump(p.slices);
    return p.ring.pop(p.alone);
}

/// The next task for m, which holds a P, of any kind; sleeps while there is none. Null: it holds no P any more.
inline task* find_any_task(machine* m) {
    runtime_state& rt = *m->rt;
    processor& p = *m->p;
    constexpr base::nanos spin = 50'000;
    static thread_local outlook seen; // the scheduler's stack does not migrate
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
        if (now - std::exchange(p.visited, now) >= slow_visit) [[unlikely]]
            if (task* t = after_long(m, p)) return found(t);
        if ((p.attention.load(std::memory_order_relaxed) & attention::capped) &&
            rt.frozen_count.load(std::memory_order_relaxed) < rt.frozen_most)
            p.attention.fetch_and(~attention::capped, std::memory_order_relaxed);
        if (p.attention.load(std::memory_order_relaxed) & attention::slice) { // who hands over has had its slice
            p.attention.fetch_and(~attention::slice, std::memory_order_relaxed);
            end_chain(p, now);
        }
        if (rt.frozen_count.load(std::memory_order_relaxed) != 0 &&
            now - p.last_thaw.load(std::memory_order_relaxed) >= rt.slice && thaw_one(m, now)) {
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
        if (idle_since == 0) {
            idle_since = now;
            seen.begin(rt.ps.size(), now);
        }
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
                        p.called() || rt.frozen_count.load(std::memory_order_relaxed) != 0 || p.wheel->next() <= now;
            } while (!again && now < until);
            if (again) continue;
        } else if (m->searching) {
            if (task* t = steal(m, seen, now)) return found(t);
        }

        // One that slept now would be woken at once, by who has work and runs it himself.
        if (m->searching && seen.moving > (seen.fruitless() ? 0u : 4u) && left_alone(rt, seen)) {
            doze(m, base::nanos{25'000} << std::min(++futile, 3u));
            idle_since = base::now() - spin; // one look, and not a spin
            continue;
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
        int n = poll_once(m, p, p.wheel->next());
        p.poll_lock.unlock();
        slept(m, p);
        p.visited = base::never;
        wake_monitor(rt);
        if (n > 1 && !p.alone && p.ring.size() > 1) published(rt);
    }
}

/// Enough tasks are frozen: one that has not begun could become one more, and when too many are, anybody of whom it is not
/// known that he computes little. Lest these starve behind hogs that never end, P lets them in now and then, and goes on until
/// another one is frozen: the seldomer, the more are frozen already, so that there is an end to the number of threads. heir:
/// the one that ran last has woken it, and it goes on in its slice. Who was trusted and then had to be frozen all the same
/// costs the others of their kind as long a wait. Owner of p.
inline bool may_start(runtime_state& rt, processor& p, task& t, bool heir) noexcept {
    const std::uint32_t frozen = rt.frozen_count.load(std::memory_order_relaxed);
    const bool begun = t.get_state() != task_state::fresh;
    if (begun && frozen < rt.frozen_most + frozen_reserve) return true;
    // In slices and not in time: where others use the CPUs those that are frozen get on no faster.
    const std::uint32_t beyond = frozen < rt.frozen_most ? 0 : frozen - rt.frozen_most;
    const std::int64_t wait = std::int64_t{8} << std::min(beyond / 16, 16u);
    if (begun && (heir || t.standing == standing::proven) && p.freezes - p.betrayed >= wait) {
        p.trusted = &t;
        return true;
    }
    if (p.freezes - p.admitted < wait) return false;
    p.admitted = p.freezes;
    p.attention.fetch_and(~attention::capped, std::memory_order_relaxed);
    return true;
}

/// Finds the next task for m, which holds a P; sleeps while there is none. Null: it holds no P any more.
inline task* find_task(machine* m) {
    runtime_state& rt = *m->rt;
    for (unsigned passed_over = 0;; ++passed_over) {
        const task* heir = m->p->runnext.load(std::memory_order_relaxed);
        task* t = find_any_task(m);
        processor* p = m->p;
        if (!t || !p || !(p->attention.load(std::memory_order_relaxed) & attention::capped)) [[likely]] return t;
        if (p->attention.load(std::memory_order_relaxed) & attention::stop) return t;
        if (may_start(rt, *p, *t, t == heir)) return t;
        rt.global.push(p->tokens, &t, 1);
        if (passed_over > 64 && thaw_one(m, base::now())) return nullptr;
    }
}

} // namespace mpg::sched
