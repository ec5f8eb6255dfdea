// shared_mutex: many readers or one writer.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/sync/waiting.hpp>

#include <chrono>
#include <cstdint>

namespace mpg {

/// SharedTimedLockable. A waiting writer keeps new readers out, and a writer that unlocks lets all readers in
/// that wait then, before the next writer: so neither starves. A reader must not lock again while it reads: a
/// writer may have come in between. After Go's sync.RWMutex.
///
///   state word  readers << 2 | has_waiters << 1 | writer. has_waiters is set while one of the two queues,
///               which a spinlock guards, is not empty; then somebody holds the mutex.
///   fast path   one compare-exchange, while has_waiters is clear.
///   slow path   lock: under the spinlock set has_waiters in the same compare-exchange that finds the mutex
///               held, link, park. unlock of the last holder: under the spinlock hand the mutex over, so that
///               nobody barges in.
///   the races   unlock / park: unlock's compare-exchange fails when has_waiters is set, and the spinlock
///               makes it wait until the waiter has parked. unlock / destroy: the mutex is given up either by
///               a compare-exchange that is the last touch, or to waiters who do not run before the last
///               touch. A writer that gives up lets the readers in that only it kept out.
///   cost        48 bytes; 5 ns each. Readers share one cache line: under many short reads on many CPUs that
///               is the price.
class shared_mutex {
  public:
    shared_mutex() = default;
    shared_mutex(const shared_mutex&) = delete;
    shared_mutex& operator=(const shared_mutex&) = delete;

    /// The forms that wait may suspend; the timed ones throw std::logic_error when they need a timer and no
    /// runtime is alive. The others do not suspend. try_ forms may fail while others wait, although the mutex
    /// could be shared.
    void lock() { (void)acquire<writing>({}); }
    bool try_lock() noexcept { return try_acquire<writing>(); }
    template <class Rep, class Period> bool try_lock_for(std::chrono::duration<Rep, Period> d) {
        return try_lock() || acquire<writing>({.deadline = sync::deadline_in(d)});
    }
    template <class Clock, class Duration> bool try_lock_until(std::chrono::time_point<Clock, Duration> t) {
        return try_lock() || acquire<writing>({.deadline = sync::deadline_at(t)});
    }
    void unlock() noexcept { release<writing>(); }

    void lock_shared() { (void)acquire<reading>({}); }
    bool try_lock_shared() noexcept { return try_acquire<reading>(); }
    template <class Rep, class Period> bool try_lock_shared_for(std::chrono::duration<Rep, Period> d) {
        return try_lock_shared() || acquire<reading>({.deadline = sync::deadline_in(d)});
    }
    template <class Clock, class Duration>
    bool try_lock_shared_until(std::chrono::time_point<Clock, Duration> t) {
        return try_lock_shared() || acquire<reading>({.deadline = sync::deadline_at(t)});
    }
    void unlock_shared() noexcept { release<reading>(); }

  private:
    using word = std::uint64_t;
    static constexpr word writer = 1, has_waiters = 2, reader = 4;

    struct reading {
        static constexpr auto reason = sched::wait_reason::shared_mutex_read;
        static constexpr word hold = reader, excluded_by = writer | has_waiters;
    };
    struct writing {
        static constexpr auto reason = sched::wait_reason::shared_mutex_write;
        static constexpr word hold = writer, excluded_by = ~word{0};
    };
    template <class Mode> sync::wait_queue& queue() noexcept {
        return std::is_same_v<Mode, reading> ? readers_ : writers_;
    }

    template <class Mode> bool try_acquire() noexcept {
        word s = word_.load(std::memory_order_relaxed);
        while (!(s & Mode::excluded_by))
            if (word_.compare_exchange_weak(s, s + Mode::hold, std::memory_order_acquire))
                return true; // pairs with: release
        return false;
    }
    // The guess comes before the look: a look at a word that somebody has just changed costs as much as the exchange.
    template <class Mode> bool acquire(const sync::limit& l) {
        word s = 0;
        do {
            if (word_.compare_exchange_weak(s, s + Mode::hold, std::memory_order_acquire)) [[likely]]
                return true; // pairs with: release
        } while (!(s & Mode::excluded_by));
        return acquire_slow<Mode>(l);
    }
    // True: got it. False: held, and the last holder will see has_waiters. Under lock_.
    template <class Mode> bool try_acquire_or_announce() noexcept {
        word s = word_.load(std::memory_order_relaxed);
        for (;;) {
            bool get = !(s & Mode::excluded_by);
            word next = get ? s + Mode::hold : s | has_waiters;
            if (word_.compare_exchange_weak(s, next, std::memory_order_acquire))
                return get; // pairs with: release
        }
    }
    template <class Mode> MPG_NOINLINE bool acquire_slow(const sync::limit& l) {
        using sync::ended;
        if (l.expired()) return false;
        for (;;) {
            sched::suspension_point();
            sync::strand self;
            lock_.lock();
            if (try_acquire_or_announce<Mode>()) {
                lock_.unlock();
                return true;
            }
            if (sched::contention_watched()) [[unlikely]] self.since = base::now();
            queue<Mode>().push_back(self);
            ended how = sync::wait<Mode::reason>(lock_, queue<Mode>(), self, l);
            if (how != ended::granted) gave_up();
            try {
                sync::rethrow(self);
            } catch (...) {
                if (how == ended::granted) release<Mode>();
                throw;
            }
            if (how != ended::withdrawn) return how == ended::granted;
        }
    }
    // If no writer waits any more, nothing keeps the waiting readers from those who read.
    void gave_up() noexcept {
        sync::strand_list woken;
        lock_.lock();
        word s = word_.load(std::memory_order_relaxed);
        if ((s & has_waiters) && !(s & writer) && writers_.empty())
            // acquire: pairs with release.
            word_.fetch_add(readers_.take_all(woken) * reader, std::memory_order_acquire);
        clear_if_empty();
        lock_.unlock();
        sync::wake_all(woken);
    }
    void clear_if_empty() noexcept {
        if (readers_.empty() && writers_.empty()) word_.fetch_and(~has_waiters, std::memory_order_relaxed);
    }

    // acquire, where the exchange fails: who hands over does so for the readers who left before: pairs with the
    // release of each of them. The first exchange guesses, as that of acquire.
    template <class Mode> void release() noexcept {
        word s = Mode::hold;
        for (;;) {
            if (s == (Mode::hold | has_waiters)) [[unlikely]] {
                if (hand_over<Mode>()) return;
                s = word_.load(std::memory_order_acquire);
            } else if (word_.compare_exchange_weak(s, s - Mode::hold, std::memory_order_acq_rel)) [[likely]] {
                return; // release pairs with: acquire, try_acquire, release
            }
        }
    }
    // By one who found himself the only holder, with has_waiters set. False: look again. A writer that gave
    // up may have let readers in since, or those who were queued have all given up. While it is so under
    // lock_, nobody else changes the word: the fast paths are closed.
    template <class Mode> MPG_NOINLINE bool hand_over() noexcept {
        sync::strand_list woken;
        word next = 0;
        lock_.lock();
        if (word_.load(std::memory_order_acquire) != (Mode::hold | has_waiters)) { // pairs with: release
            lock_.unlock();
            return false;
        }
        sync::strand* w = std::is_same_v<Mode, reading> ? writers_.take() : nullptr;
        if (!w) {
            next = readers_.take_all(woken) * reader;
            if (next == 0) w = writers_.take();
        }
        if (w) {
            woken.push_back(*w);
            next = writer;
        }
        bool taken = next != 0;
        if (taken) {
            if (!readers_.empty() || !writers_.empty()) next |= has_waiters;
            word_.store(next, std::memory_order_release); // pairs with: try_acquire
        } else {
            clear_if_empty();
        }
        lock_.unlock();
        base::nanos waited = 0;
        if (sched::contention_watched()) [[unlikely]] {
            const base::nanos now = base::now();
            woken.for_each([&](const sync::strand& s) { waited += s.since ? now - s.since : 0; }); // ours (I2)
        }
        sync::wake_all(woken);
        if (waited > 0) [[unlikely]] sched::contention_ended(waited, __builtin_return_address(0));
        return taken;
    }

    base::atomic<word> word_{0};
    base::spinlock lock_;
    sync::wait_queue readers_; // guarded by lock_
    sync::wait_queue writers_; // guarded by lock_
};

} // namespace mpg
