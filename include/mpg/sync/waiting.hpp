// How the types of this room wait: a FIFO of waiters under a primitive's lock, and one function that waits in
// it.
//
// A wait that only a grant (or a stop) ends is a single park. One that a deadline or a context may end, too,
// goes through a multi_wait: whoever claims it decides how the wait ends, and a grant that lost the claim
// goes to the next.
//
//   I1  queued is true of exactly the waiters in their primitive's queue; the primitive's lock guards both. Who drops
//       one that has given up clears queued as his last touch of it; it then need not touch the primitive any more.
//   I2  who takes a waiter from the queue owns its wake-up: he writes what is granted through it, releases
//       the lock and wakes it; until then its frame, and so the strand's call, cannot end.
//   I3  a strand that was granted its wait does not touch the primitive any more, unless its owner says so.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/base/config.hpp>
#include <mpg/base/intrusive_list.hpp>
#include <mpg/sched/cancel.hpp>
#include <mpg/sched/timer.hpp>
#include <mpg/sched/wait.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace mpg::sync {

/// A strand in the queue of a primitive; ok and amount are the primitive's business.
struct strand : sched::waiter {
    base::atomic<bool> queued{false};                                            // I1
    sched::multi_wait::claim_result how = sched::multi_wait::claim_result::lost; // whoever has claimed multi
    std::size_t amount = 0;                                                      // how much it waits for
    base::nanos since = 0;                                                       // when it came
};

/// Precondition: taken from its queue. Its frame may be gone when this returns.
inline void wake(strand& s, bool later = false) noexcept {
    if (s.multi)
        s.multi->wake(s.how, later);
    else if (later)
        sched::ready_later(s.who);
    else
        sched::ready(s.who);
}

using strand_list = base::intrusive_list<strand>;

inline void wake_all(strand_list& taken) noexcept {
    while (strand* s = taken.pop_front()) wake(*s, true);
}

/// FIFO; the primitive's lock guards it.
class wait_queue {
  public:
    /// May be false although take() finds nobody: somebody gives up, but has not left the queue yet.
    bool empty() const noexcept { return list_.empty(); }
    void push_back(strand& s) noexcept {
        list_.push_back(s);
        s.queued.store(true, std::memory_order_relaxed);
    }
    void push_front(strand& s) noexcept {
        list_.push_front(s);
        s.queued.store(true, std::memory_order_relaxed);
    }
    void leave(strand& s) noexcept {
        if (!s.queued.load(std::memory_order_relaxed)) return;
        strand_list::erase(s);
        s.queued.store(false, std::memory_order_release); // pairs with: wait_limited
    }
    strand* front() noexcept { return list_.front(); }
    /// Takes s out, for a grant. False: it has given up; nothing is to be granted to it.
    bool take(strand& s) noexcept {
        bool ours = true;
        if (s.multi) {
            auto how = s.multi->claim(s.index);
            ours = how != sched::multi_wait::claim_result::lost;
            if (ours) s.how = how;
        }
        leave(s);
        return ours;
    }
    /// The first who still waits; null: nobody does.
    strand* take() noexcept {
        while (strand* s = list_.front())
            if (take(*s)) return s;
        return nullptr;
    }
    /// All who still wait, in order; how many.
    std::size_t take_all(strand_list& into) noexcept {
        std::size_t n = 0;
        for (; strand* s = take(); ++n) into.push_back(*s);
        return n;
    }

  private:
    strand_list list_;
};

/// What may end a wait, beside its grant and a stop.
struct limit {
    base::nanos deadline = base::never;
    sched::cancel_source* source = nullptr;
    bool none() const noexcept { return deadline == base::never && !source; }
    bool expired() const noexcept { return deadline != base::never && deadline <= base::now(); }
};

/// How a wait ended. withdrawn: by a stop; when what the wait left behind is in order,
/// call suspension_point(), which throws.
enum class ended : std::uint8_t { granted, timeout, cancelled, withdrawn };

namespace detail {

inline constexpr std::uint32_t by_grant = 0, by_timer = 1, by_context = 2, by_nobody = 3;

template <class Lock> struct single {
    Lock& lock;
    wait_queue& queue;
    strand& self;

    static void commit(void* arg) noexcept { static_cast<single*>(arg)->lock.unlock(); }
    static bool abort(void* arg) noexcept {
        auto& w = *static_cast<single*>(arg);
        w.lock.lock();
        bool ours = w.self.queued.load(std::memory_order_relaxed);
        w.queue.leave(w.self);
        w.lock.unlock();
        return ours;
    }
    static void look(void* arg, sched::wait_view& v) noexcept {
        v.private_argument = true;
        v.pending = static_cast<single*>(arg)->self.queued.load(std::memory_order_relaxed);
    }
};
template <class Lock, sched::wait_reason Reason>
inline constexpr sched::park_ops single_ops{Reason, &single<Lock>::commit, &single<Lock>::abort, &single<Lock>::look};

struct many {
    sched::multi_wait& multi;

    static void commit(void* arg) noexcept { static_cast<many*>(arg)->multi.commit(); }
    static bool abort(void* arg) noexcept {
        return static_cast<many*>(arg)->multi.claim(by_nobody) != sched::multi_wait::claim_result::lost;
    }
    static void look(void* arg, sched::wait_view& v) noexcept {
        v.private_argument = true;
        v.pending = static_cast<many*>(arg)->multi.is_pending();
    }
};
template <sched::wait_reason Reason>
inline constexpr sched::park_ops many_ops{Reason, &many::commit, &many::abort, &many::look};

inline void claim_and_wake(sched::multi_wait& multi, std::uint32_t index) noexcept {
    auto how = multi.claim(index);
    if (how != sched::multi_wait::claim_result::lost) multi.wake(how);
}
struct alarm : sched::timer_node {
    sched::multi_wait& multi;
    explicit alarm(sched::multi_wait& m) noexcept : multi(m) {
        of_wait = true;
        fire = [](sched::timer_node& n) noexcept { claim_and_wake(static_cast<alarm&>(n).multi, by_timer); };
    }
};
struct hook : sched::cancel_hook {
    sched::multi_wait& multi;
    explicit hook(sched::multi_wait& m) noexcept : multi(m) {
        fire = [](sched::cancel_hook& h) noexcept {
            claim_and_wake(static_cast<hook&>(h).multi, by_context);
        };
    }
};

} // namespace detail

/// Waits for one of several things. Preconditions as for wait(); between() runs with the lock released and
/// self in the queue, so that a grant may come while it runs.
template <sched::wait_reason Reason, class Lock, class Between>
MPG_NOINLINE ended wait_limited(Lock& lock, wait_queue& queue, strand& self, const limit& l,
                                Between between) {
    using namespace detail;
    sched::multi_wait multi;
    alarm timer(multi);
    hook on_done(multi);
    self.multi = &multi;
    self.index = by_grant;
    lock.unlock();
    between();

    constexpr auto lost = sched::multi_wait::claim_result::lost;
    bool armed = false, subscribed = false;
    std::uint32_t winner = by_nobody;
    bool waits = true; // false: claimed by ourselves, nobody will wake us
    if (l.deadline != base::never) {
        sched::arm(timer, l.deadline); // of a wait: does not throw
        armed = true;
    }
    if (waits && l.source) {
        subscribed = l.source->subscribe(on_done);
        if (!subscribed && multi.claim(by_context) != lost) {
            winner = by_context;
            waits = false;
        }
    }
    many parked{multi};
    if (waits && sched::park(many_ops<Reason>, &parked)) winner = multi.winner();
    if (armed) sched::disarm(timer);
    if (subscribed) l.source->unsubscribe(on_done);
    if (winner == by_grant) return ended::granted;
    if (self.queued.load(std::memory_order_acquire)) { // pairs with: leave
        lock.lock();
        queue.leave(self);
        lock.unlock();
    }
    return winner == by_timer ? ended::timeout : winner == by_context ? ended::cancelled : ended::withdrawn;
}

/// Waits until self is granted what it waits for, or the limit ends the wait. Preconditions:
/// suspension_point() was called, lock is held, self is in queue. Afterwards the lock is free and self in no
/// queue. Throws nothing.
template <sched::wait_reason Reason, class Lock>
ended wait(Lock& lock, wait_queue& queue, strand& self, const limit& l = {}) {
    if (l.none()) [[likely]] {
        detail::single<Lock> w{lock, queue, self};
        self.multi = nullptr;
        self.who = sched::current();
        return sched::park(detail::single_ops<Lock, Reason>, &w) ? ended::granted : ended::withdrawn;
    }
    return wait_limited<Reason>(lock, queue, self, l, [] {});
}

template <class Rep, class Period> base::nanos deadline_in(std::chrono::duration<Rep, Period> d) {
    return base::deadline_after(base::any_duration(d));
}
/// A time of another clock is taken as that far from now.
template <class Clock, class Duration> base::nanos deadline_at(std::chrono::time_point<Clock, Duration> t) {
    if constexpr (std::is_same_v<Clock, clock>)
        return base::any_duration(t.time_since_epoch()).value.count();
    else
        return deadline_in(t - Clock::now());
}

} // namespace mpg::sync
