// condition_variable.
#pragma once

#include <mpg/sched/biased_lock.hpp>
#include <mpg/sync/mutex.hpp>
#include <mpg/sync/waiting.hpp>

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace mpg {

using std::cv_status;

/// As std::condition_variable, with std::unique_lock<mpg::mutex>, but it wakes in the order in which they
/// came and never spuriously. However a wait ends, by an exception too, the mutex is locked again. It may be
/// destroyed when all who wait have been notified.
///
///   state       a FIFO of waiters under a spinlock.
///   wait        link, unlock the mutex, park. The waiter stands in the queue before the mutex is free, so a
///               notify after the change of the condition finds it. A notify between the unlock and the park
///               is an early claim of its multi_wait.
///   the race    notify_one / time-out: a notify whose claim is lost takes the next, so no notification is
///               lost.
///   cost        24 bytes; a notify that finds nobody is one locked section.
class condition_variable {
  public:
    condition_variable() = default;
    condition_variable(const condition_variable&) = delete;
    condition_variable& operator=(const condition_variable&) = delete;

    /// Neither suspends. The mutex may be locked or not.
    void notify_one() noexcept {
        lock_.lock();
        sync::strand* s = queue_.take();
        lock_.unlock();
        if (s) sync::wake(*s);
    }
    void notify_all() noexcept {
        sync::strand_list woken;
        lock_.lock();
        queue_.take_all(woken);
        lock_.unlock();
        sync::wake_all(woken);
    }

    /// Precondition of all: lock owns its mutex, the same for all who wait. May suspend.
    void wait(std::unique_lock<mutex>& lock) { (void)wait_at(lock, base::never); }
    template <class Pred> void wait(std::unique_lock<mutex>& lock, Pred pred) {
        while (!pred()) wait(lock);
    }
    template <class Rep, class Period>
    cv_status wait_for(std::unique_lock<mutex>& lock, std::chrono::duration<Rep, Period> d) {
        return wait_at(lock, sync::deadline_in(d));
    }
    template <class Rep, class Period, class Pred>
    bool wait_for(std::unique_lock<mutex>& lock, std::chrono::duration<Rep, Period> d, Pred pred) {
        return wait_at(lock, sync::deadline_in(d), pred);
    }
    template <class Clock, class Duration>
    cv_status wait_until(std::unique_lock<mutex>& lock, std::chrono::time_point<Clock, Duration> t) {
        return wait_at(lock, sync::deadline_at(t));
    }
    template <class Clock, class Duration, class Pred>
    bool wait_until(std::unique_lock<mutex>& lock, std::chrono::time_point<Clock, Duration> t, Pred pred) {
        return wait_at(lock, sync::deadline_at(t), pred);
    }

  private:
    template <class Pred> bool wait_at(std::unique_lock<mutex>& lock, base::nanos deadline, Pred& pred) {
        while (!pred())
            if (wait_at(lock, deadline) == cv_status::timeout) return pred();
        return true;
    }
    cv_status wait_at(std::unique_lock<mutex>& lock, base::nanos deadline) {
        sched::suspension_point();
        sync::strand self;
        lock_.lock();
        queue_.push_back(self);
        auto how = sync::wait_limited<sched::wait_reason::condition_variable>(
            lock_, queue_, self, {.deadline = deadline}, [&] { lock.unlock(); });
        {
            sched::no_unwind relock; // the caller is promised the mutex
            lock.lock();
        }
        sched::suspension_point();
        return how == sync::ended::timeout ? cv_status::timeout : cv_status::no_timeout;
    }

    sched::biased_lock lock_;
    sync::wait_queue queue_; // guarded by lock_
};

} // namespace mpg
