// The poller seam: what the scheduler knows of the outside world. Six functions, one object per P.
#pragma once

#include <mpg/base/clock.hpp>

#include <memory>
#include <string>

namespace mpg {

/// Which mechanism waits for I/O. none: only time and wake-ups (no descriptor could be had).
enum class netpoll { automatic, io_uring, epoll, none };

constexpr const char* to_string(netpoll p) noexcept {
    constexpr const char* names[] = {"automatic", "io_uring", "epoll", "none"};
    return names[static_cast<unsigned>(p)];
}

} // namespace mpg

namespace mpg::sched {

/// Belongs to one P. `poll` runs under the P's poller lock (a try-lock: any machine may reap for a P whose own
/// machine is away); everything else may be called by any thread at any time.
class poller {
  public:
    virtual ~poller() = default;
    virtual netpoll kind() const noexcept = 0;
    /// Hands pending submissions to the kernel, reaps completions, and readies (ready_later) whom they concern.
    /// until: 0 does not wait; else waits until that steady time, a wake() or a completion. Returns how many it
    /// readied. It may return early.
    virtual int poll(base::nanos until) noexcept = 0;
    /// Makes a poll that waits, or the next one, return soon. Idempotent; one system call when one waits.
    virtual void wake() noexcept = 0;
    /// Would poll(0) have something to do (submissions pending, completions to reap)? A cheap look, no system call
    /// where the mechanism allows.
    virtual bool has_work() const noexcept = 0;
    /// Operations or registrations with a waiting task: while there are some the process is not deadlocked, and
    /// somebody must poll.
    virtual bool busy() const noexcept = 0;
    /// Strands of other Ps may come to wait here at any time: somebody must poll though nobody waits now.
    virtual bool watched() const noexcept { return false; }
    /// Hands pending submissions to the kernel: what a cancel_batch does in the end with those that it knows.
    virtual void flush() noexcept {}

  protected:
    friend class cancel_batch;
    poller* next_unsent = nullptr; // of a cancel_batch; the poller's own lock guards it
};

/// What a runtime makes at its start: one poller per P, all of one kind.
struct poller_set {
    netpoll kind = netpoll::none;
    std::string reason; // why this kind: "" for the first choice
    std::unique_ptr<std::unique_ptr<poller>[]> pollers;
};

/// The pollers for a runtime of `procs` Ps; `wanted` honours $MPG_NETPOLL already. With an explicit io_uring
/// that the system refuses: kind is none and reason says why (the start then fails with that). Defined in the io
/// room; only what starts a runtime calls it, so that no other source is compiled with the pollers.
poller_set make_pollers(netpoll wanted, unsigned procs);

/// The poller of the P that the calling machine holds, or on a plain thread (or in blocking) one of the current or
/// default runtime; null with no runtime. Do not keep it over a call that may park.
poller* current_poller() noexcept;
/// By a task of by's runtime that has started something in `by` or registered with it: somebody will poll there.
void attend(const poller* by) noexcept;

} // namespace mpg::sched
