// Waiting for a descriptor by blocking the OS thread: for threads that are no tasks, and for tasks inside
// blocking().
//
// No runtime is needed, and none is used: one that ends meanwhile does not matter. The thread waits in
// poll(2) for the descriptor and for an eventfd of its own, to which a kick writes.
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/io/driver.hpp>

#include <algorithm>
#include <poll.h>
#include <sys/eventfd.h>

namespace mpg::io {

class thread_waiter final : public canceller {
  public:
    static thread_waiter& instance() noexcept {
        static thread_waiter it;
        return it;
    }

    /// Waits until op's descriptor is ready (try_again), op is kicked or the deadline passes (-ECANCELED in
    /// both cases). Blocks.
    outcome wait(operation& op, base::nanos deadline) noexcept {
        op.event = event_of_this_thread();
        if (op.event < 0) return op.event;
        if (!op.arm(*this)) return -ECANCELED;
        const short events = op.way == direction::read ? POLLIN | POLLRDHUP : POLLOUT;
        for (;;) {
            ::pollfd fds[2] = {{op.fd, events, 0}, {op.event, POLLIN, 0}};
            const base::nanos now = base::now(), left = std::max<base::nanos>(deadline - now, 0);
            const ::timespec ts{left / 1'000'000'000, left % 1'000'000'000};
            const outcome n = sys::poll(fds, 2, deadline == base::never ? nullptr : &ts);
            if (n == 0) op.state.fetch_or(operation::kicked, std::memory_order_relaxed); // by the deadline
            if (n < 0 && n != -EINTR) return n;
            if (n > 0 && fds[1].revents != 0) drain(op.event); // perhaps a late kick of an earlier wait
            if (op.state.load(std::memory_order_acquire) & operation::kicked)
                return -ECANCELED; // pairs with: kick
            if (n > 0 && fds[0].revents != 0) return try_again;
        }
    }

    void cancel(operation& op) noexcept override {
        const std::uint64_t one = 1;
        (void)!::write(op.event, &one, sizeof one);
    }

  private:
    thread_waiter() = default;

    static void drain(int fd) noexcept {
        std::uint64_t n;
        (void)!::read(fd, &n, sizeof n);
    }
    /// Made at the thread's first wait, closed at its end. -errno: it cannot be had.
    MPG_NOINLINE static int event_of_this_thread() noexcept {
        struct holder {
            int fd = -1;
            ~holder() {
                if (fd >= 0) sys::close(fd);
            }
        };
        static thread_local holder mine;
        if (mine.fd < 0) mine.fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return mine.fd >= 0 ? mine.fd : -errno;
    }
};

} // namespace mpg::io
