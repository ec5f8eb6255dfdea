// Which poller a runtime gets.
//
// io_uring where it works, which is tried with real operations under whatever filter and limit the process
// lives with (containers refuse it with EPERM or ENOSYS, some filters allow the set-up alone, some kernels
// charge it to RLIMIT_MEMLOCK). Under valgrind it is taken only when asked for: up to 3.19 a thread that waits in
// io_uring_enter keeps valgrind's lock, and all others stand still. All processors get the same kind. Where not even epoll can be had (no
// descriptors), tasks run all the same, and I/O fails.
#pragma once

#include <mpg/base/valgrind.hpp>
#include <mpg/io/clock_driver.hpp>
#include <mpg/io/epoll_driver.hpp>
#include <mpg/io/uring_driver.hpp>
#include <mpg/sched/poller.hpp>

#include <memory>
#include <string>

namespace mpg::io {

/// One D for each processor; open(D&, index) -> 0 or -errno. False: it failed, and why is in error.
template <class D, class Open>
bool make_drivers(sched::poller_set& set, unsigned procs, outcome& error, Open open) {
    auto made = std::make_unique<std::unique_ptr<sched::poller>[]>(procs);
    for (unsigned i = 0; i != procs; ++i) {
        auto d = std::make_unique<D>();
        error = open(*d, i);
        if (error < 0) return false;
        made[i] = std::move(d);
    }
    set.pollers = std::move(made);
    return true;
}

} // namespace mpg::io

namespace mpg {

inline sched::poller_set sched::make_pollers(netpoll wanted, unsigned procs) {
    sched::poller_set set;
    io::outcome error = 0;
    auto refused = [&set, &error](const char* what) {
        if (!set.reason.empty()) set.reason += "; ";
        set.reason += std::string(what) + " cannot be used: " + io::error_of(error).message();
    };
    if (wanted == netpoll::automatic && base::under_valgrind()) {
        set.reason = "io_uring is not used under valgrind";
    } else if (wanted == netpoll::automatic || wanted == netpoll::io_uring) {
        // Trying one out is enough for all: they live under the same filter.
        auto open = [](io::uring_driver& d, unsigned i) { return d.open(i == 0); };
        if (io::make_drivers<io::uring_driver>(set, procs, error, open)) {
            set.kind = netpoll::io_uring;
            return set;
        }
        refused("io_uring");
        if (wanted == netpoll::io_uring) return set;
    }
    if (wanted != netpoll::none) {
        if (io::make_drivers<io::epoll_driver>(set, procs, error,
                                               [](io::epoll_driver& d, unsigned) { return d.open(); })) {
            set.kind = netpoll::epoll;
            return set;
        }
        refused("epoll");
    }
    if (error == 0) error = -EOPNOTSUPP;
    io::make_drivers<io::clock_driver>(set, procs, error,
                                       [error](io::clock_driver& d, unsigned) { return d.open(error); });
    return set;
}

} // namespace mpg
