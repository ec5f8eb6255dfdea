// The mutex, without its name: mutex, once and pool say what they wait for.
//
//   state word  locked | has_waiters. has_waiters is set while the queue, which a spinlock guards, is not
//               empty.
//   fast path   lock: compare-exchange of 0 with locked. unlock: the converse.
//   slow path   lock: spin a little, then under the spinlock either take the free word or set has_waiters in
//               the same compare-exchange that finds it locked, link and park. unlock: under the spinlock
//               take the first waiter. Usually the word is cleared and the waiter competes for it again with
//               those who run, which is what makes a mutex fast; who loses goes back to the front of the
//               queue. But a waiter that came more than 1 ms ago is handed the mutex, locked as it is, so
//               that nobody starves: the rule of Go's sync.Mutex.
//   the races   unlock / park: unlock's compare-exchange fails when has_waiters is set, and then the spinlock
//               makes it wait until the waiter has parked. unlock / destroy: the word is cleared last, after
//               the spinlock was given back, so that the next owner may destroy the mutex at once. woken /
//               gives up: a waiter that was woken without the mutex is responsible for it: it takes it, or
//               finds it locked by one who will see has_waiters, or, when it must end, locks and unlocks.
//   cost        24 bytes; 5 ns for each of lock and unlock.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/sync/waiting.hpp>

#include <cstdint>

namespace mpg::sync {

class mutex_core {
  public:
    mutex_core() = default;
    mutex_core(const mutex_core&) = delete;
    mutex_core& operator=(const mutex_core&) = delete;

    /// False: the limit came first. May suspend.
    template <sched::wait_reason Reason> bool lock(const limit& l = {}) {
        std::uint32_t free = 0;
        if (word_.compare_exchange_strong(free, locked, std::memory_order_acquire)) // pairs with: unlock
            return true;
        return lock_slow<Reason>(l);
    }
    bool try_lock() noexcept {
        std::uint32_t s = word_.load(std::memory_order_relaxed);
        while (!(s & locked))
            if (word_.compare_exchange_weak(s, s | locked, std::memory_order_acquire))
                return true; // pairs with: unlock
        return false;
    }
    void unlock() noexcept {
        std::uint32_t s = locked;
        if (word_.compare_exchange_strong(s, 0, std::memory_order_release)) [[likely]] // pairs with: lock
            return;
        unlock_slow();
    }

  private:
    static constexpr std::uint32_t locked = 1, has_waiters = 2;
    static constexpr base::nanos patience = 1'000'000;
    static constexpr int spins = 16;

    template <sched::wait_reason Reason> MPG_NOINLINE bool lock_slow(const limit& l) {
        for (int i = 0; i < spins && word_.load(std::memory_order_relaxed) == locked; ++i) base::cpu_relax();
        if (try_lock()) return true;
        if (l.expired()) return false;
        strand self;
        self.since = base::now();
        for (bool again = false;; again = true) {
            if (!again) sched::suspension_point();
            queue_lock_.lock();
            if (try_lock_or_announce()) {
                queue_lock_.unlock();
                return true;
            }
            if (again)
                queue_.push_front(self);
            else
                queue_.push_back(self);
            self.ok = false;
            ended how = sync::wait<Reason>(queue_lock_, queue_, self, l);
            try {
                rethrow(self);
            } catch (...) {
                pass_on(how, self);
                throw;
            }
            if (how == ended::granted) {
                if (self.ok || try_lock()) return true;
                if (!l.expired()) continue;
            }
            if (how == ended::withdrawn) continue;
            leave();
            return false;
        }
    }
    // True: locked. False: somebody else has it and will see has_waiters. Under queue_lock_.
    bool try_lock_or_announce() noexcept {
        std::uint32_t s = word_.load(std::memory_order_relaxed);
        for (;;) {
            std::uint32_t next = s & locked ? s | has_waiters : s | locked;
            if (word_.compare_exchange_weak(s, next, std::memory_order_acquire)) // pairs with: unlock
                return !(s & locked);
        }
    }
    void pass_on(ended how, const strand& self) noexcept {
        if (how == ended::granted && (self.ok || try_lock())) unlock();
        leave();
    }
    // After somebody gave up; so that the next unlock need not find out.
    void leave() noexcept {
        queue_lock_.lock();
        clear_if_empty();
        queue_lock_.unlock();
    }
    void clear_if_empty() noexcept {
        if (queue_.empty()) word_.fetch_and(~has_waiters, std::memory_order_relaxed);
    }
    MPG_NOINLINE void unlock_slow() noexcept {
        for (;;) {
            queue_lock_.lock();
            strand* next = queue_.take();
            clear_if_empty();
            // The waiter is ours (I2): it stays where it is until it is woken.
            const base::nanos waited = next ? base::now() - next->since : 0;
            const bool hand_over = waited >= patience;
            if (hand_over) next->ok = true;
            queue_lock_.unlock();
            if (next) {
                // release: pairs with try_lock, lock.
                if (!hand_over) word_.fetch_and(~locked, std::memory_order_release);
                wake(*next);
                return sched::contention_ended(waited, __builtin_return_address(0)); // nothing of ours any more
            }
            // Those who were queued have given up. Others may have come since.
            std::uint32_t s = locked;
            if (word_.compare_exchange_strong(s, 0, std::memory_order_release)) return; // pairs with: lock
        }
    }

    base::atomic<std::uint32_t> word_{0};
    base::spinlock queue_lock_;
    wait_queue queue_; // guarded by queue_lock_
};

} // namespace mpg::sync
