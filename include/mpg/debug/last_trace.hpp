// The flight recorder's file when a process dies.
#pragma once

#include <mpg/debug/go_trace.hpp>
#include <mpg/debug/trace.hpp>
#include <mpg/sched/fatal.hpp>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <string>
#include <string_view>
#include <unistd.h>
#include <utility>

namespace mpg::debug {

namespace detail {

struct last_trace {
    std::mutex lock;
    std::string path;     // guarded by lock
    ::pid_t process = -1; // likewise: whose it is. A child of fork() has not the threads that may hold locks
    std::atomic<bool> written{false};

    /// Never destroyed: a process may die while it exits.
    static last_trace& instance() {
        static last_trace& one = *new last_trace;
        return one;
    }
};

/// Whatever the caller is in the middle of: it takes no P, and works on a thread of its own or not at all.
inline void write_last_trace() noexcept {
    try {
        last_trace& l = last_trace::instance();
        std::unique_lock hold(l.lock, std::try_to_lock);
        if (!hold || l.path.empty() || l.process != ::getpid() || l.written.exchange(true)) return;
        std::string said;
        pinned runtimes;
        auto write = [&] {
            const std::string text = std::string_view(l.path).ends_with(".json") ? json_trace(runtimes) : go_trace_of(runtimes, 0);
            const int fd = ::open(l.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
            if (fd < 0) {
                said = "no trace in " + l.path + ": " + std::strerror(errno) + "\n";
                return;
            }
            sched::write_all(fd, text);
            ::close(fd);
            said = "trace: " + l.path + "\n";
        };
        if (only_on_a_thread(write)) sched::write_all(2, said);
    } catch (...) { // no memory
    }
}

} // namespace detail

/// From now on a fatal error (a deadlock, the limit of threads, an exception that leaves a task) writes what the flight
/// recorder has to that file, and the file's name to stderr: as JSON if it ends in .json, else for `go tool trace`. An
/// empty path: no longer. A stack overflow does not: it may have happened anywhere, also inside of malloc. It holds for this
/// process, not for children of fork().
inline void trace_at_fatal_error(std::string path) {
    detail::last_trace& l = detail::last_trace::instance();
    std::lock_guard hold(l.lock);
    l.path = std::move(path);
    l.process = ::getpid();
}

} // namespace mpg::debug
