// Sleeping.
#pragma once

#include <mpg/sched/timers.hpp>
#include <mpg/sched/unwind.hpp>
#include <mpg/sched/yield.hpp>

#include <chrono>
#include <type_traits>

namespace mpg::sched {

/// Precondition: the deadline is not over.
inline void sleep_to(base::nanos deadline) {
    suspension_point();
    timer_node s;
    s.sleeper = current();
    if (s.sleeper->is_thread()) {
        ::timespec ts{static_cast<time_t>(deadline / 1'000'000'000), static_cast<long>(deadline % 1'000'000'000)};
        while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, nullptr) == EINTR) {}
        return;
    }
    s.deadline = deadline;
    // Armed by commit: it cannot fire before the registers are saved. On a plain machine arm does not throw. A stop may
    // come first, when the machine is a locked one, which has no P by then: so it looks at nothing that arm writes but
    // under the wheel's lock, and finds that it comes too early.
    static constexpr park_ops ops{wait_reason::sleep,
                                  [](void* arg) noexcept {
                                      auto* n = static_cast<timer_node*>(arg);
                                      arm(*n, n->deadline);
                                  },
                                  [](void* arg) noexcept { return disarm(*static_cast<timer_node*>(arg)); }};
    static constexpr park_ops for_ever{wait_reason::sleep, [](void*) noexcept {}, // nothing is armed, and nobody else wakes it
                                       [](void*) noexcept { return true; }};
    park(deadline == base::never ? for_ever : ops, &s); // fired, or disarmed
    suspension_point();
}

inline void sleep_until(base::nanos deadline) {
    if (deadline > base::now()) return sleep_to(deadline);
    suspension_point();
    passes_by(); // who is late catches up at once; but not for ever
}

} // namespace mpg::sched

namespace mpg {

/// Suspends this task (or blocks this plain thread) for at least d; nanoseconds::max() is for ever. A d of zero or less
/// yields. Late by at most a tick of 65.5 us on an idle machine.
inline void sleep_for(base::any_duration d) {
    if (d.value.count() > 0) return sched::sleep_to(base::deadline_after(d));
    sched::suspension_point();
    yield();
}

/// As sleep_for, until t; goes on at once when t is over, but yields now and then. t may be of another clock: then until
/// that one has come to t, however it is set meanwhile.
template <class Clock, class Duration> void sleep_until(std::chrono::time_point<Clock, Duration> t) {
    if constexpr (std::is_same_v<Clock, clock>)
        sched::sleep_until(base::any_duration(t.time_since_epoch()).value.count());
    else
        do sleep_for(t - Clock::now());
        while (Clock::now() < t);
}

} // namespace mpg
