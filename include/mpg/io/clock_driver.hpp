// The poller that has no descriptors: it serves time and wake-ups by a futex, and I/O that would wait fails.
#pragma once

#include <mpg/io/driver.hpp>
#include <mpg/sched/futex.hpp>

namespace mpg::io {

class clock_driver final : public driver {
  public:
    /// why: what operations fail with.
    outcome open(outcome why) noexcept {
        why_ = why;
        return 0;
    }

    netpoll kind() const noexcept override { return netpoll::none; }
    bool has_work() const noexcept override { return false; }
    bool busy() const noexcept override { return false; }
    void wake() noexcept override {
        if (state_.exchange(notified, std::memory_order_seq_cst) == waiting) sched::futex_wake(state_);
    }
    int poll(base::nanos until) noexcept override {
        if (until == 0) return 0;
        std::uint32_t expected = running;
        if (state_.compare_exchange_strong(expected, waiting, std::memory_order_seq_cst)) // pairs with: wake
            sched::futex_wait(state_, waiting, until);
        state_.exchange(running, std::memory_order_seq_cst);
        return 0;
    }
    outcome prepare(descriptor&) noexcept override { return why_; }
    void start(operation& op) noexcept override { op.finish(why_); }

  private:
    static constexpr std::uint32_t running = 0, waiting = 1, notified = 2; // see uring_driver

    base::atomic<std::uint32_t> state_{running};
    outcome why_ = 0;
};

} // namespace mpg::io
