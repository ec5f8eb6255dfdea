// Sends pipelined responses that wait for company, when that takes too long.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/sched/timer.hpp>
#include <mpg/sched/wait.hpp>
#include <mpg/sync/wait_group.hpp>

#include <new>

namespace mpg::http::detail {

/// While a handler runs, earlier responses wait to leave together with its own. If it takes longer than
/// `patience`, a timer starts a task that sends them, so that no client waits for a handler that waits for
/// the client.
///
/// Who may touch the output buffer: the connection's task, except between lend() and the next take_back():
/// then the sending task, if one was started. take_back() ends that: it withdraws the timer or waits for the
/// task. 40 ns for the pair of calls.
class late_flush : private sched::timer_node {
  public:
    /// send: called by a task of its own, at most once for each lend().
    explicit late_flush(void (*send)(late_flush&)) noexcept
        : send_(send) {
        fire = [](sched::timer_node& n) noexcept { static_cast<late_flush&>(n).start(); };
    }
    late_flush(const late_flush&) = delete;
    late_flush& operator=(const late_flush&) = delete;

    void lend() {
        sched::arm(*this, base::now() + patience);
        lent_ = true;
    }
    void take_back() noexcept {
        if (!lent_) return;
        lent_ = false;
        if (sched::disarm(*this)) return;
        sched::no_unwind whatever_happens; // the task uses this object
        sending_.wait();
    }

  protected:
    ~late_flush() { take_back(); }

  private:
    static constexpr base::nanos patience = 1'000'000;

    void start() noexcept {
        try {
            sending_.go([this] { send_(*this); });
        } catch (const std::bad_alloc&) { // they wait a little longer
        }
    }

    void (*send_)(late_flush&);
    wait_group sending_;
    bool lent_ = false; // the connection's task's own
};

} // namespace mpg::http::detail
