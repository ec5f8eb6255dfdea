// The mutex, without its name: mutex, once and pool say what they wait for.
//
//   state word  locked | has_waiters | woken. has_waiters is set while the queue, which a spinlock guards, is not
//               empty. woken: one of those who were queued has been woken without the mutex, and has not come yet.
//   fast path   lock: compare-exchange of 0 with locked. unlock: the converse.
//   slow path   lock: spin a little, then under the spinlock either take the free word or set has_waiters in
//               the same compare-exchange that finds it locked, link and park. unlock: under the spinlock
//               take the first waiter. Usually the word is cleared and the waiter competes for it again with
//               those who run, which is what makes a mutex fast; who loses goes back to the front of the
//               queue. But a waiter that came more than 1 ms ago is handed the mutex, locked as it is, so
//               that nobody starves: the rule of Go's sync.Mutex. While woken is set an unlock wakes nobody: else
//               each unlock of one who locks again and again would wake another waiter for nothing (Go's mutexWoken).
//   the races   unlock / park: unlock's compare-exchange fails when has_waiters is set, and then the spinlock
//               makes it wait until the waiter has parked. unlock / destroy: the word is cleared last, after
//               the spinlock was given back, so that the next owner may destroy the mutex at once. woken /
//               gives up: woken is set by an unlock in the exchange that clears locked, and cleared by the waiter it
//               stands for, in the exchange by which that one takes the word, or finds it locked: by somebody who
//               unlocks after that and sees has_waiters without woken. So while the word is free and somebody is queued,
//               one is on his way. When that one must end and finds it free, he locks and unlocks.
//   at home     As long as nobody has had to wait, nor come from elsewhere, a mutex that was made by a task is at home on that
//               task's P (sched/bias.hpp): there the word is changed by plain stores, of 0 and locked only. Whoever comes
//               from elsewhere or finds it locked takes the home away first, under the spinlock.
//   cost        40 bytes; at home 2 ns for each of lock and unlock, else 5.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/sched/biased_lock.hpp>
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
        if (bias_.is_nobodys()) {
            if (word_.compare_exchange_strong(free, locked, std::memory_order_acquire)) return true; // pairs with: unlock
        } else if (change_at_home(0, locked) == at_home::done) {
            return true;
        }
        return lock_slow<Reason>(l);
    }
    bool try_lock() noexcept {
        if (!bias_.is_nobodys()) {
            if (const at_home how = change_at_home(0, locked); how != at_home::elsewhere) return how == at_home::done;
            make_common();
        }
        std::uint32_t s = word_.load(std::memory_order_relaxed);
        while (!(s & locked))
            if (word_.compare_exchange_weak(s, s | locked, std::memory_order_acquire))
                return true; // pairs with: unlock
        return false;
    }
    void unlock() noexcept {
        std::uint32_t s = locked;
        if (bias_.is_nobodys()) {
            if (word_.compare_exchange_strong(s, 0, std::memory_order_release)) [[likely]] return; // pairs with: lock
        } else if (change_at_home(locked, 0) == at_home::done) {
            return;
        }
        unlock_slow();
    }

  private:
    static constexpr std::uint32_t locked = 1, has_waiters = 2, woken = 4;
    static constexpr base::nanos patience = 1'000'000;
    static constexpr int spins = 16;

    enum class at_home : std::uint8_t { done, other_word, elsewhere };
    // Changes the word if it is `from`, and the caller at home.
    MPG_ALWAYS_INLINE at_home change_at_home(std::uint32_t from, std::uint32_t to) noexcept {
        if (!bias_.enter()) return at_home::elsewhere;
        const bool is = word_.load(std::memory_order_relaxed) == from;
        if (is) word_.store(to, std::memory_order_relaxed);
        bias_.leave();
        return is ? at_home::done : at_home::other_word;
    }
    MPG_NOINLINE void make_common() noexcept {
        queue_lock_.lock();
        bias_.make_common();
        queue_lock_.unlock();
    }

    template <sched::wait_reason Reason> MPG_NOINLINE bool lock_slow(const limit& l) {
        if (!bias_.is_nobodys()) [[unlikely]] make_common();
        if ((word_.load(std::memory_order_relaxed) & (locked | woken)) == woken) sched::passes_by();
        if (sched::others_run())
            for (int i = 0; i < spins && word_.load(std::memory_order_relaxed) == locked; ++i) base::cpu_relax();
        if (try_lock()) return true;
        if (l.expired()) return false;
        strand self;
        self.since = base::now();
        std::uint32_t mine = 0; // woken, when it stands for us
        for (bool again = false;; again = true) {
            if (!again) sched::suspension_point();
            queue_lock_.lock();
            if (try_lock_or_announce(mine)) {
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
                sched::suspension_point();
            } catch (...) {
                pass_on(how, self);
                throw;
            }
            mine = 0;
            if (how == ended::granted) {
                if (self.ok) return true;
                mine = woken;
                if (!l.expired()) continue;
                if (came_too_late()) return true;
            }
            if (how == ended::withdrawn) continue;
            leave();
            return false;
        }
    }
    // True: locked. False: somebody else has it and will see has_waiters. mine: a bit to clear. Under queue_lock_.
    bool try_lock_or_announce(std::uint32_t mine) noexcept {
        std::uint32_t s = word_.load(std::memory_order_relaxed);
        for (;;) {
            std::uint32_t next = (s & locked ? s | has_waiters : s | locked) & ~mine;
            if (word_.compare_exchange_weak(s, next, std::memory_order_acquire)) // pairs with: unlock
                return !(s & locked);
        }
    }
    // By one who was woken without the mutex and must end. True: it was free, and is his now.
    bool came_too_late() noexcept {
        std::uint32_t s = word_.load(std::memory_order_relaxed);
        while (!word_.compare_exchange_weak(s, (s | locked) & ~woken, std::memory_order_acquire)) {
        } // pairs with: unlock
        return !(s & locked);
    }
    void pass_on(ended how, const strand& self) noexcept {
        if (how == ended::granted && (self.ok || came_too_late())) unlock();
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
        if (!bias_.is_nobodys()) [[unlikely]] make_common();
        std::uint32_t s = word_.load(std::memory_order_relaxed);
        for (;;) {
            // Nobody waits (those who were queued have given up), or one is on his way.
            if (!(s & has_waiters) || (s & woken)) {
                if (word_.compare_exchange_weak(s, s & ~locked, std::memory_order_release)) return; // pairs with: lock
                continue;
            }
            queue_lock_.lock();
            strand* next = queue_.take();
            clear_if_empty();
            // The waiter is ours (I2): it stays where it is until it is woken.
            const base::nanos waited = next ? base::now() - next->since : 0;
            const bool hand_over = waited >= patience;
            if (hand_over) next->ok = true;
            queue_lock_.unlock();
            if (next) {
                // Nobody else changes either bit now. release: pairs with try_lock, lock.
                if (!hand_over) word_.fetch_add(woken - locked, std::memory_order_release);
                wake(*next);
                return sched::contention_ended(waited, __builtin_return_address(0)); // nothing of ours any more
            }
            s = word_.load(std::memory_order_relaxed);
        }
    }

    [[no_unique_address]] sched::local_bias bias_;
    base::atomic<std::uint32_t> word_{0};
    base::spinlock queue_lock_;
    wait_queue queue_; // guarded by queue_lock_
};

} // namespace mpg::sync
