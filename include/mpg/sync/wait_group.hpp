// wait_group: waits for a number of things to end.
#pragma once

#include <mpg/sched/go.hpp>
#include <mpg/sync/gate.hpp>

#include <cstddef>
#include <functional>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace mpg {

namespace sync {

/// Runs f, and counts down when it is gone, run or not. f is destroyed first.
template <class F> class counted_task {
  public:
    template <class G> counted_task(gate& g, G&& f) : guard_{&g}, f_(std::forward<G>(f)) {}
    counted_task(counted_task&&) = default;
    void operator()() { std::invoke(f_); }

  private:
    struct guard {
        gate* counted;
        guard(gate* g) noexcept : counted(g) {}
        guard(guard&& o) noexcept : counted(std::exchange(o.counted, nullptr)) {}
        ~guard() {
            if (counted) (void)counted->change(-1); // cannot fail: it was counted
        }
    };
    guard guard_; // declared first: destroyed last
    F f_;
};

} // namespace sync

/// A counter of what is under way. Any strand may use it at any time. It may be destroyed as soon as wait()
/// has returned, while the last done() is still on its way out. After Go's sync.WaitGroup; how it works:
/// sync/gate.hpp.
class wait_group {
  public:
    wait_group() = default;
    wait_group(const wait_group&) = delete;
    wait_group& operator=(const wait_group&) = delete;

    /// Adds n, which may be negative. Throws std::logic_error, and adds nothing, when the counter would go
    /// below zero. Wakes all who wait when it becomes zero. Does not suspend. Call it before what is counted
    /// starts.
    void add(std::ptrdiff_t n = 1) {
        if (!gate_.change(n)) throw std::logic_error("mpg: counter of wait_group out of range");
    }
    /// add(-1).
    void done() { add(-1); }
    /// Waits until the counter is zero. May suspend. What happened before each done() happens before it
    /// returns.
    void wait() { gate_.wait<sched::wait_reason::wait_group>(); }
    /// Starts f in a task that counts: add, mpg::go, and done when the task has ended or was destroyed before
    /// it started. Does not suspend.
    template <class F> MPG_ALWAYS_INLINE void go(F&& f) {
        add(1);
        // Whatever throws from here on destroys a counted_task, which counts down.
        mpg::go(sync::counted_task<std::decay_t<F>>(gate_, std::forward<F>(f)));
    }

  private:
    sync::gate gate_;
};

} // namespace mpg
