// barrier: a number of strands that meet, again and again.
#pragma once

#include <mpg/sched/biased_lock.hpp>
#include <mpg/sync/waiting.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

namespace mpg {

namespace sync {
struct no_completion {
    void operator()() const noexcept {}
};
} // namespace sync

/// As std::barrier.
///
///   state       under a spinlock: the phase, how many are still expected in it, and in the next.
///   arrive      one locked section. The last one runs the completion function without the lock: nobody else
///               may arrive then. After that it opens the next phase and wakes all.
///   wait        returns when the phase is over; else links and parks. Who is woken belongs to the old phase.
///   cost        48 bytes; 7 ns for an arrival, a wake-up for each who waits.
template <class Completion = sync::no_completion> class barrier {
  public:
    class arrival_token {
        friend class barrier;
        explicit arrival_token(std::uint64_t p) noexcept : phase_(p) {}
        std::uint64_t phase_;
    };
    static constexpr std::ptrdiff_t max() noexcept { return std::numeric_limits<std::ptrdiff_t>::max(); }

    /// Precondition: 0 <= expected. The completion function must not throw; it may suspend.
    explicit barrier(std::ptrdiff_t expected, Completion completion = Completion())
        : missing_(expected), expected_(expected), completion_(std::move(completion)) {}
    barrier(const barrier&) = delete;
    barrier& operator=(const barrier&) = delete;

    /// Precondition: 0 < n <= those still expected. Suspends only in the completion function.
    [[nodiscard]] arrival_token arrive(std::ptrdiff_t n = 1) { return arrive(n, 0); }
    /// Waits until the phase is over. May suspend.
    void wait(arrival_token&& arrival) const {
        for (;;) {
            sched::suspension_point();
            sync::strand self;
            lock_.lock();
            if (phase_ != arrival.phase_) {
                lock_.unlock();
                return;
            }
            queue_.push_back(self);
            auto how = sync::wait<sched::wait_reason::barrier>(lock_, queue_, self);
            sched::suspension_point();
            if (how == sync::ended::granted) return;
        }
    }
    void arrive_and_wait() { wait(arrive()); }
    /// Arrives, and is not expected in later phases.
    void arrive_and_drop() { (void)arrive(1, 1); }

  private:
    arrival_token arrive(std::ptrdiff_t n, std::ptrdiff_t drops) {
        lock_.lock();
        arrival_token token(phase_);
        expected_ -= drops;
        missing_ -= n;
        bool last = missing_ == 0;
        lock_.unlock();
        if (last) complete();
        return token;
    }
    void complete() noexcept {
        sched::no_unwind works_normally; // others wait for its end
        completion_();
        sync::strand_list woken;
        lock_.lock();
        ++phase_;
        missing_ = expected_;
        queue_.take_all(woken);
        lock_.unlock();
        sync::wake_all(woken);
    }

    mutable sched::biased_lock lock_;
    std::uint64_t phase_ = 0;        // all guarded by lock_
    std::ptrdiff_t missing_;         // in this phase
    std::ptrdiff_t expected_;        // in the next
    mutable sync::wait_queue queue_; // of this phase
    [[no_unique_address]] Completion completion_; // run by the last to arrive
};

} // namespace mpg
