// Timers: nodes that live elsewhere, in a hierarchical wheel per P.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/base/intrusive_list.hpp>

#include <cstdint>

namespace mpg::sched {

class timer_wheel;
struct task;

/// One timer. It lives in its owner (a frame, a context, an operation) and must be disarmed before it dies.
/// arm and disarm of one node must not run at the same time as each other; the callback may run at any time
/// between. About 10 ns for each of the two.
struct timer_node : base::list_hook {
    /// Runs once at or after the deadline, on a machine with a processor, outside of any task, without locks: it may
    /// ready, claim, take spinlocks, start tasks, and re-arm this node; it must not suspend, throw or take long.
    void (*fire)(timer_node&) noexcept = nullptr;
    /// Instead of a callback: it is readied, to the back of the queue, and the node is not touched from then on.
    task* sleeper = nullptr;
    /// The runtime goes away with the node armed: it is detached already and will not fire; may free the node. Null:
    /// nothing to do.
    void (*dropped)(timer_node&) noexcept = nullptr;
    base::nanos deadline = 0;
    /// Ends a wait of the strand that arms it: on a plain thread park_thread fires it, and no runtime is needed.
    bool of_wait = false;

    // The wheel's own. Guarded by the wheel's lock, but for wheel, which tells which lock that is.
    base::atomic<timer_wheel*> wheel{nullptr}; // null: not armed
    std::uint16_t slot = 0;
    const void* before = nullptr; // a node that was armed a little earlier, and may be gone: only to be prefetched
};

/// Precondition: not armed. A deadline in the past fires soon; base::never is not armed at all (disarm: false).
/// On a plain thread the timer is served by the current or default runtime; with none alive: std::logic_error. That of a
/// wait is served by the thread itself; there nothing is thrown.
void arm(timer_node& node, base::nanos deadline);

/// True: it was pending and will not fire. False: it was not armed or has fired; a callback that was running on
/// another machine has ended when this returns (so: not while holding a lock that the callback takes, and not from
/// the callback itself).
bool disarm(timer_node& node) noexcept;

/// As disarm, but it does not wait; so it may be called with a lock held that the callback takes, after which it is called
/// again if the callback runs.
enum class disarmed : std::uint8_t { pending, idle, running };
[[nodiscard]] disarmed try_disarm(timer_node& node) noexcept;

} // namespace mpg::sched
