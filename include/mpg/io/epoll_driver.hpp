// The poller on epoll: for systems that refuse io_uring. One instance per processor; a strand is told that
// its descriptor is ready, and tries again. The sleep protocol is that of uring_driver.
#pragma once

#include <mpg/io/descriptor.hpp>
#include <mpg/io/driver.hpp>
#include <mpg/io/epoll_set.hpp>

namespace mpg::io {

class epoll_driver final : public driver {
  public:
    epoll_driver()
        : set_(new epoll_set) {}
    epoll_driver(const epoll_driver&) = delete;
    epoll_driver& operator=(const epoll_driver&) = delete;
    ~epoll_driver() override { set_->close(); }

    /// 0 or -errno.
    outcome open() noexcept { return set_->open(); }

    netpoll kind() const noexcept override { return netpoll::epoll; }
    /// A system call while somebody waits: the kernel does not show what it has.
    bool has_work() const noexcept override { return set_->busy() && set_->ready(); }
    bool busy() const noexcept override { return set_->busy(); }
    bool watched() const noexcept override { return set_->watched(); }
    void wake() noexcept override {
        if (state_.exchange(notified, std::memory_order_seq_cst) == waiting) set_->wake();
    }
    int poll(base::nanos until) noexcept override {
        if (until == 0) return set_->busy() ? set_->wait(0, [] {}) : 0;
        std::uint32_t expected = running;
        if (!state_.compare_exchange_strong(expected, waiting,
                                            std::memory_order_seq_cst)) { // pairs with: wake
            state_.store(running, std::memory_order_seq_cst);
            return set_->wait(0, [] {});
        }
        const int n = set_->wait(until, [] {});
        state_.exchange(running, std::memory_order_seq_cst);
        return n;
    }

    outcome prepare(descriptor& d) noexcept override {
        const outcome e = d.enlist(*set_);
        if (e <= 0) return e;
        sched::runtime_section here;
        sched::attend(this); // the caller may have been given another P meanwhile
        return 0;
    }
    void start(operation& op) noexcept override { op.target->slot()->start(op); }

  private:
    static constexpr std::uint32_t running = 0, waiting = 1, notified = 2; // see uring_driver

    epoll_set* const set_; // shared with the descriptors registered with it
    alignas(base::cache_line) base::atomic<std::uint32_t> state_{running};
};

} // namespace mpg::io
