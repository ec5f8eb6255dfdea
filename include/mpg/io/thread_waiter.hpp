// Waiting for a descriptor by blocking the OS thread: for threads that are no tasks, and for tasks inside
// blocking().
//
// No runtime is needed, and none is used: one that ends meanwhile does not matter. The thread waits in
// poll(2) for the descriptor and for an eventfd of the operation, to which a kick writes. The eventfd lives
// until the operation has left its descriptor, so that no kick can meet a number that has been given to
// something else.
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

    /// Waits until op's descriptor is ready (try_again), or until op is kicked or the deadline passes
    /// (-ECANCELED in both cases). Blocks.
    outcome wait(operation& op, base::nanos deadline) noexcept {
        if (op.event < 0) op.event = static_cast<int>(make_event());
        if (op.event < 0) return op.event;
        if (!op.arm(*this)) return -ECANCELED;
        const short events = op.way == direction::read ? POLLIN | POLLRDHUP : POLLOUT;
        for (;;) {
            ::pollfd fds[2] = {{op.fd, events, 0}, {op.event, POLLIN, 0}};
            const base::nanos left =
                deadline == base::never ? 0 : std::max<base::nanos>(deadline - base::now(), 0);
            const ::timespec ts{left / 1'000'000'000, left % 1'000'000'000};
            const outcome n = sys::poll(fds, 2, deadline == base::never ? nullptr : &ts);
            if (n < 0 && n != -EINTR) return n;
            if (n == 0) op.state.fetch_or(operation::kicked, std::memory_order_relaxed); // by the deadline
            if (n > 0 && fds[1].revents != 0) drain(op.event);
            if (op.state.load(std::memory_order_acquire) & operation::kicked)
                return -ECANCELED; // pairs with: kick
            if (n > 0 && fds[0].revents != 0) return try_again;
        }
    }
    /// When op has left its descriptor.
    static void release(operation& op) noexcept {
        if (op.event >= 0) sys::close(op.event);
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
    MPG_NOINLINE static outcome make_event() noexcept {
        const int fd = sys::os::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return fd >= 0 ? fd : -errno;
    }
};

} // namespace mpg::io
