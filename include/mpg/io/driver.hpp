// The two sides that meet in every wait for I/O: the operation of a strand, and the driver that ends it.
//
// An operation lives in the frame of the strand that waits. Its life in one wait:
//   1. The strand fills it in, subscribes to its context, arms its timer, and parks.
//   2. The driver's start() runs in the park's commit, with the strand's registers saved. It takes the
//   driver's lock,
//      sets `armed`, and links the operation (a submission in the ring, a waiter in the descriptor's slot).
//      When `kicked` was set before, it readies the strand at once instead.
//   3. The driver ends it, exactly once for each start: it writes result and readies the strand. io_uring
//   does that with
//      the final completion and never earlier, so that the kernel has let go of the buffer, and no completion
//      can come for an operation whose frame is gone.
//   4. The strand withdraws timer and context, and looks at result.
//
// Whatever wants the strand back (close, a deadline, a context, a stop) first writes its reason where the
// strand will look, and then *kicks* the operation: "come back soon and look around". The strand finds out
// why, or that there is no reason any more, and waits again. A kick may come before the start, while it
// waits, or after its end, any number of times. The kicker holds a lock (or runs as the timer's callback)
// that the strand passes before it leaves the frame: thus the operation is alive during a kick. A result that
// came in spite of a kick is delivered: no byte is lost.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/intrusive_list.hpp>
#include <mpg/io/syscall.hpp>
#include <mpg/sched/cancel.hpp>
#include <mpg/sched/poller.hpp>
#include <mpg/sched/timer.hpp>
#include <mpg/sched/wait.hpp>

#include <cstdint>

namespace mpg::io {

class descriptor;
class driver;
struct operation;

enum class direction : std::uint8_t { read, write };

/// What a driver that completes operations is to do; a driver of readiness waits for `way` in each case.
enum class op_code : std::uint8_t { ready, recv, send, read, write, readv, writev, sync };

/// The result with which a driver of readiness ends an operation: try the system call again.
inline constexpr outcome try_again = -EAGAIN;

/// Makes a started operation end soon; takes its own lock. Called by kick alone.
class canceller {
  public:
    virtual void cancel(operation& op) noexcept = 0;

  protected:
    ~canceller() = default;
};

/// Linked, with others that need no turn, in its descriptor.
struct operation : base::list_hook {
    struct deadline_timer : sched::timer_node {
        operation* op = nullptr;
    };
    struct context_hook : sched::cancel_hook {
        operation* op = nullptr;
    };

    operation() noexcept {
        timer.op = hook.op = this;
        timer.fire = [](sched::timer_node& n) noexcept { static_cast<deadline_timer&>(n).op->kick(); };
        hook.fire = [](sched::cancel_hook& h) noexcept { static_cast<context_hook&>(h).op->kick(); };
    }
    operation(const operation&) = delete;
    operation& operator=(const operation&) = delete;

    /// See the head of this file.
    void kick() noexcept {
        // acq_rel: pairs with arm and rearm. Who kicks has written its reason before; where is set.
        if ((state.fetch_or(kicked, std::memory_order_acq_rel) & (armed | kicked)) == armed)
            where.load(std::memory_order_relaxed)->cancel(*this);
    }
    /// For the driver, under its lock, before it links the operation. False: kicked already, do not start.
    [[nodiscard]] bool arm(canceller& c) noexcept {
        where.store(&c, std::memory_order_relaxed);
        return !(state.fetch_or(armed, std::memory_order_acq_rel) & kicked); // pairs with: kick
    }
    /// For the strand, before each start. True: kicked since the last one, so look for reasons.
    [[nodiscard]] bool rearm() noexcept {
        return state.exchange(0, std::memory_order_acq_rel) & kicked; // pairs with: kick
    }
    /// For the driver: the end. The strand may run at once, and the frame be gone.
    void finish(outcome r) noexcept {
        sched::task* t = who;
        result = r;
        sched::ready_by_world(t);
    }

    static constexpr std::uint32_t armed = 1, kicked = 2;

    op_code code = op_code::ready;
    direction way = direction::read;
    int fd = -1;
    descriptor* target = nullptr;
    void* address = nullptr;
    std::uint32_t length = 0;
    std::uint32_t flags = 0;  // MSG_... of recv and send
    std::uint64_t offset = 0; // of read and write; ~0: the file's own position
    sched::task* who = nullptr;
    driver* by = nullptr;   // of the processor on which the strand parks
    int event = -1;         // an eventfd, where a plain thread waits
    outcome result = 0;     // written by the driver before it readies the strand
    std::uint32_t more = 0; // IORING_CQE_F_... of the completion
    base::atomic<std::uint32_t> state{0};
    base::atomic<canceller*> where{nullptr}; // whom to ask for a cancel; set once armed is
    deadline_timer timer;
    context_hook hook;
};

/// What the pollers of this room can do beside what the scheduler knows: every sched::poller in the process
/// is one, since only this room makes them.
class driver : public sched::poller {
  public:
    /// Starts op, whose strand is parked; in the park's commit. Does not fail: errors are results.
    virtual void start(operation& op) noexcept = 0;
    /// What must be done once for a descriptor before operations on it can wait here. 0 or -errno. Not
    /// concurrently for one descriptor.
    virtual outcome prepare(descriptor& d) noexcept = 0;
    /// Completes operations, and others have been collected that will go to the kernel together: one more
    /// costs less than a system call of its own.
    virtual bool batching() const noexcept { return false; }

    /// Counts operations, for turn::pace: mostly by the machine that holds the processor, but a machine that
    /// has lost its own may count here as well, and a lost count does no harm. True: 16 since one has waited.
    bool sixteen_in_a_row() noexcept {
        const std::uint32_t n = begun_.load(std::memory_order_relaxed) + 1;
        begun_.store(n, std::memory_order_relaxed);
        return n % 16 == 0;
    }
    /// One waits, so that others run.
    void waits() noexcept { begun_.store(0, std::memory_order_relaxed); }

  private:
    base::atomic<std::uint32_t> begun_{0};
};

/// The driver of the processor that runs this task. Do not keep it over anything that may park.
inline driver* current_driver() noexcept { return static_cast<driver*>(sched::current_poller()); }

} // namespace mpg::io
