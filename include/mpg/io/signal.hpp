// Signals as values of channels.
//
// The handler writes the signal's number to a pipe; a thread of its own reads the pipe and sends to the
// channels, without waiting. (Not signalfd: that wants the signal blocked in every thread, also in those that
// are not ours.) Handlers, pipe and thread are there while a channel is. After Go's os/signal.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/chan/chan.hpp>
#include <mpg/io/syscall.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <fcntl.h>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <sched.h>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace mpg::io {

/// What the handler needs, constant-initialised: one in the process. The counter lets the pipe be closed only
/// when no handler is about to write to it: a handler raises it, then looks at the pipe; who closes takes the
/// pipe away, then waits for 0.
struct signal_port {
    base::atomic<int> pipe{-1};
    base::atomic<int> handlers{0};
};
[[gnu::visibility("default")]] inline constinit signal_port the_signal_port;

extern "C" inline void mpg_signal_handler(int number) {
    const int saved = errno;
    the_signal_port.handlers.fetch_add(
        1, std::memory_order_seq_cst); // before the load; pairs with: signal_hub::stop
    if (const int fd = the_signal_port.pipe.load(std::memory_order_seq_cst); fd >= 0) {
        const auto byte = static_cast<unsigned char>(number);
        (void)!::write(fd, &byte, 1); // full: 64 thousand are waiting, and this one is lost
    }
    the_signal_port.handlers.fetch_sub(1, std::memory_order_release); // pairs with: signal_hub::stop
    errno = saved;
}

class signal_hub {
  public:
    static constexpr std::size_t buffer = 64; // values that a channel keeps for a slow receiver

    [[gnu::visibility("default")]] static signal_hub& instance() {
        static auto* it = new signal_hub; // never destroyed: channels may die later than statics
        return *it;
    }

    channels::channel_core* subscribe(std::initializer_list<int> signals) {
        std::uint64_t mask = 0;
        for (int s : signals) {
            if (!allowed(s))
                throw std::invalid_argument("mpg: notify: signal " + std::to_string(s) + " cannot be had");
            mask |= bit(s);
        }
        for (int s = 1; s <= last && signals.size() == 0; ++s)
            if (allowed(s)) mask |= bit(s);
        channels::channel<int>* c = channels::channel<int>::make(buffer);
        try {
            std::lock_guard lock(mutex_);
            destroy_ = c->destroy;
            c->destroy = [](channels::channel_core& dead) noexcept { instance().unsubscribe(dead); };
            subscribers_.push_back({c, 0});
            try {
                if (!reader_) start();
                for (int s = 1; s <= last; ++s)
                    if (mask & bit(s)) add_user(subscribers_.back(), s);
            } catch (...) {
                remove(subscribers_.size() - 1);
                throw;
            }
        } catch (...) {
            stop_if_unused();
            destroy_(*c);
            throw;
        }
        return c;
    }

  private:
    static constexpr int last = 64;

    struct subscriber {
        channels::channel<int>* to;
        std::uint64_t mask;
    };
    struct reader {
        int from, to; // the two ends of the pipe
        std::thread thread;
    };

    signal_hub() = default;

    static std::uint64_t bit(int s) noexcept { return std::uint64_t{1} << (s - 1); }
    /// Not: what cannot be caught, what the faulting instruction would repeat for ever, what the runtime uses
    /// itself, what the C library keeps to itself.
    static bool allowed(int s) noexcept {
        if (s < 1 || s > last || (s > SIGSYS && s < SIGRTMIN)) return false;
        for (int no : {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGURG})
            if (s == no) return false;
        return true;
    }

    // All with mutex_ held, but where they say otherwise.

    void add_user(subscriber& who, int s) {
        if (users_[s]++ == 0) {
            struct ::sigaction action {};
            action.sa_handler = mpg_signal_handler;
            // ThreadSanitizer runs a handler only once the thread comes back from a system call that it does not know
            // (io_uring_enter): which a restarted one never does.
            action.sa_flags = (base::tsan ? 0 : SA_RESTART) | SA_ONSTACK;
            ::sigfillset(&action.sa_mask);
            if (::sigaction(s, &action, &previous_[s]) != 0) {
                --users_[s];
                throw std::system_error(errno, std::system_category(), "mpg: notify: sigaction");
            }
        }
        who.mask |= bit(s);
    }
    void remove(std::size_t index) noexcept {
        for (int s = 1; s <= last; ++s)
            if (subscribers_[index].mask & bit(s))
                if (--users_[s] == 0) ::sigaction(s, &previous_[s], nullptr);
        subscribers_.erase(subscribers_.begin() + static_cast<std::ptrdiff_t>(index));
    }
    void start() {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0)
            throw std::system_error(errno, std::system_category(), "mpg: notify: pipe");
        ::fcntl(ends[1], F_SETFL, O_NONBLOCK); // the handler never waits
        ::sigset_t all, before;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all,
                          &before); // inherited by the new thread: it takes no signals itself
        try {
            reader_ = std::make_unique<reader>(reader{ends[0], ends[1], {}});
            reader_->thread = std::thread([this, from = ends[0]] { serve(from); });
        } catch (...) {
            reader_.reset();
            ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
            sys::close(ends[0]);
            sys::close(ends[1]);
            throw;
        }
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        the_signal_port.pipe.store(ends[1], std::memory_order_seq_cst);
    }

    /// From the last handle of a channel, on any thread. Without the lock.
    void unsubscribe(channels::channel_core& dead) noexcept {
        {
            std::lock_guard lock(mutex_);
            const auto it = std::find_if(subscribers_.begin(), subscribers_.end(),
                                         [&](const subscriber& s) { return s.to == &dead; });
            if (it != subscribers_.end()) remove(static_cast<std::size_t>(it - subscribers_.begin()));
        }
        stop_if_unused();
        destroy_(dead);
    }
    /// Without the lock, since the thread takes it.
    void stop_if_unused() noexcept {
        std::unique_ptr<reader> gone;
        {
            std::lock_guard lock(mutex_);
            if (!subscribers_.empty() || !reader_) return;
            gone = std::move(reader_);
            the_signal_port.pipe.store(
                -1, std::memory_order_seq_cst); // before the loads; pairs with: the handler
            while (the_signal_port.handlers.load(std::memory_order_seq_cst) != 0) ::sched_yield();
        }
        sys::close(gone->to); // the thread reads the end
        gone->thread.join();
        sys::close(gone->from);
    }

    /// The thread.
    void serve(int from) noexcept {
        unsigned char numbers[256];
        for (;;) {
            const outcome n = sys::read(from, numbers, sizeof numbers);
            if (n <= 0) return;
            std::lock_guard lock(mutex_);
            for (outcome i = 0; i != n; ++i)
                for (const subscriber& s : subscribers_) {
                    int number = numbers[i];
                    if (s.mask & bit(number)) channels::try_send(s.to, number);
                }
        }
    }

    std::mutex mutex_; // never held over a wait; guards what follows
    std::vector<subscriber> subscribers_;
    std::unique_ptr<reader> reader_;
    unsigned users_[last + 1] = {};
    struct ::sigaction previous_[last + 1] = {};                  // of signals that have users
    void (*destroy_)(channels::channel_core&) noexcept = nullptr; // a channel's own; the same for all
};

} // namespace mpg::io

namespace mpg {

/// Each of these signals that the process gets, as a value, until the last copy of the returned channel goes;
/// then what was in force before is restored. No signal named: all that can be had. Several channels may ask
/// for the same signal: each gets it. 64 values are kept for a slow receiver, further ones are dropped. The
/// channel is never closed.
///
/// Throws std::invalid_argument for a signal that cannot be had (SIGKILL, SIGSTOP, the faults, and SIGURG,
/// which the runtime uses), std::system_error when there are no descriptors or threads. Does not suspend.
inline recv_chan<int> notify(std::initializer_list<int> signals) {
    return channels::access::adopt<recv_chan<int>>(io::signal_hub::instance().subscribe(signals));
}

} // namespace mpg
