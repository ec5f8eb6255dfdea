// latch: a count down to zero, once.
#pragma once

#include <mpg/sync/gate.hpp>

#include <cstddef>
#include <stdexcept>

namespace mpg {

/// As std::latch. It may be destroyed as soon as wait() has returned, or try_wait() true. State, fast path,
/// race and cost: sync/gate.hpp.
class latch {
  public:
    static constexpr std::ptrdiff_t max() noexcept { return sync::gate::max; }

    /// Throws std::logic_error when expected is negative or above max().
    explicit latch(std::ptrdiff_t expected) { change(expected); }
    latch(const latch&) = delete;
    latch& operator=(const latch&) = delete;

    /// Wakes all who wait when the count becomes zero; does not suspend. Throws std::logic_error, and counts
    /// nothing, when it would go below zero or n is negative.
    void count_down(std::ptrdiff_t n = 1) {
        if (n < 0) throw std::logic_error("mpg: latch counts down only");
        change(-n);
    }
    bool try_wait() const noexcept { return gate_.is_open(); }
    /// May suspend.
    void wait() const { gate_.wait<sched::wait_reason::latch>(); }
    void arrive_and_wait(std::ptrdiff_t n = 1) {
        count_down(n);
        wait();
    }

  private:
    void change(std::ptrdiff_t by) {
        if (!gate_.change(by)) throw std::logic_error("mpg: count of latch out of range");
    }
    mutable sync::gate gate_; // who waits stands in its queue
};

} // namespace mpg
