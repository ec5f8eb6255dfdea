// semaphore: a number of places.
#pragma once

#include <mpg/sched/biased_lock.hpp>
#include <mpg/sync/waiting.hpp>

#include <chrono>
#include <cstddef>
#include <system_error>

namespace mpg {

/// Counts places that strands take, several at once if they like, and give back. FIFO: one who waits for many
/// is not overtaken by those who want few. Any strand may use it at any time. After
/// golang.org/x/sync/semaphore.
///
///   state word  the number of free places, under a spinlock, which guards the queue, too.
///   fast path   nobody waits and there are enough: one locked section.
///   slow path   link, park. release() deducts for each of the first waiters whose wish can be met, and wakes
///               them.
///   the race    who gives up at the head of the queue lets those behind go on. A grant that meets a time-out
///               lost its claim and deducts nothing. One who is granted places and then unwound gives them
///               back.
///   cost        32 bytes; 7 ns for each of acquire and release.
class semaphore {
  public:
    /// With n free places.
    constexpr explicit semaphore(std::size_t n) noexcept : free_(n) {}
    semaphore(const semaphore&) = delete;
    semaphore& operator=(const semaphore&) = delete;

    /// Waits for n places and takes them. May suspend.
    void acquire(std::size_t n = 1) { (void)take(n, {}); }
    /// {}: taken. Else nothing was taken and it is ctx.err(), also when ctx was done before. May suspend.
    [[nodiscard]] std::error_code acquire(const context& ctx, std::size_t n = 1) {
        sched::cancel_source* source = sched::source_of(ctx);
        if (!source) {
            acquire(n);
            return {};
        }
        if (source->is_done()) return source->err();
        return take(n, {.source = source}) == sync::ended::granted ? std::error_code{} : source->err();
    }
    /// False: not free now, or others wait. Does not suspend.
    [[nodiscard]] bool try_acquire(std::size_t n = 1) noexcept {
        lock_.lock();
        bool taken = take_free(n);
        lock_.unlock();
        return taken;
    }
    /// As acquire, for at most d.
    template <class Rep, class Period>
    [[nodiscard]] bool try_acquire_for(std::chrono::duration<Rep, Period> d, std::size_t n = 1) {
        return try_acquire(n) || take(n, {.deadline = sync::deadline_in(d)}) == sync::ended::granted;
    }
    /// Gives n places back, or adds them. Wakes those who can go on now; does not suspend.
    void release(std::size_t n = 1) noexcept {
        sync::strand_list woken;
        lock_.lock();
        free_ += n;
        grant(woken);
        lock_.unlock();
        sync::wake_all(woken);
    }

  private:
    bool take_free(std::size_t n) noexcept {
        if (!queue_.empty() || free_ < n) return false;
        free_ -= n;
        return true;
    }
    // Under the lock.
    void grant(sync::strand_list& woken) noexcept {
        while (sync::strand* s = queue_.front()) {
            if (s->amount > free_) return;
            if (!queue_.take(*s)) continue;
            free_ -= s->amount;
            woken.push_back(*s);
        }
    }
    sync::ended take(std::size_t n, const sync::limit& l) {
        sync::ended how;
        do {
            sched::suspension_point();
            sync::strand self;
            self.amount = n;
            lock_.lock();
            if (take_free(n)) {
                lock_.unlock();
                return sync::ended::granted;
            }
            queue_.push_back(self);
            how = sync::wait<sched::wait_reason::semaphore>(lock_, queue_, self, l);
            if (how != sync::ended::granted) release(0);
            try {
                sched::suspension_point();
            } catch (...) {
                if (how == sync::ended::granted) release(n);
                throw;
            }
        } while (how == sync::ended::withdrawn);
        return how;
    }

    sched::biased_lock lock_;
    std::size_t free_;       // guarded by lock_
    sync::wait_queue queue_; // guarded by lock_
};

} // namespace mpg
