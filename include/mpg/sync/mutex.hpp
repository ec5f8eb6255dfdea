// mutex.
#pragma once

#include <mpg/sync/mutex_core.hpp>

#include <chrono>

namespace mpg {

/// Mutual exclusion for strands: Lockable and TimedLockable, so for std::lock_guard, std::unique_lock,
/// std::scoped_lock. Not recursive. A task may unlock on another OS thread than it locked on, and another
/// strand may unlock it. No waiter starves. It may be destroyed by the next owner as soon as that one has
/// unlocked it. After Go's sync.Mutex; how it works: sync/mutex_core.hpp.
class mutex {
  public:
    mutex() = default;

    /// May suspend.
    void lock() { (void)core_.lock<sched::wait_reason::mutex>(); }
    /// Does not suspend. False only when it is locked.
    bool try_lock() noexcept { return core_.try_lock(); }
    /// As lock, for at most d.
    template <class Rep, class Period> bool try_lock_for(std::chrono::duration<Rep, Period> d) {
        return core_.try_lock() || core_.lock<sched::wait_reason::mutex>({.deadline = sync::deadline_in(d)});
    }
    template <class Clock, class Duration> bool try_lock_until(std::chrono::time_point<Clock, Duration> t) {
        return core_.try_lock() || core_.lock<sched::wait_reason::mutex>({.deadline = sync::deadline_at(t)});
    }
    /// Precondition: locked. Wakes one who waits; does not suspend.
    void unlock() noexcept { core_.unlock(); }

  private:
    sync::mutex_core core_;
};

} // namespace mpg
