// What the kernel tells of another thread of this process: does it run, and how much has it run?
#pragma once

#include <mpg/base/clock.hpp>
#include <mpg/base/config.hpp>
#include <mpg/sched/cpu_alarm.hpp>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <unistd.h>

namespace mpg::sched {

/// R, S, D, ...; 0: cannot be told.
inline char thread_state(int tid) noexcept {
    char path[48], text[128];
    std::snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = ::read(fd, text, sizeof text - 1);
    ::close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    const char* end = std::strrchr(text, ')'); // the name may hold anything
    return end && end[1] == ' ' ? end[2] : '\0';
}

/// CPU time of the thread. -1: cannot be told.
inline base::nanos cpu_time(int tid) noexcept {
    ::timespec t{};
    if (::clock_gettime(cpu_clock_of(tid), &t) != 0) return -1;
    return static_cast<base::nanos>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

/// Is it on a CPU, and not in a system call as far as can be told?
inline bool thread_runs(int tid) noexcept {
    if (const char state = thread_state(tid)) return state == 'R';
    const base::nanos used = cpu_time(tid);
    for (base::nanos until = base::now() + 5'000; base::now() < until;) base::cpu_relax();
    return used >= 0 && cpu_time(tid) != used;
}

/// Without /proc (hidden, or no descriptor is left to open it): the CPU clock goes, or has stood still for a while.
class clock_sight {
  public:
    /// As thread_state. Or 0, and wait is when to look again.
    char state(int tid, base::nanos now, base::nanos& wait) noexcept {
        const base::nanos used = cpu_time(tid);
        if (used < 0) return 0;
        if (used != clock_) {
            const bool first = clock_ < 0;
            clock_ = used;
            since_ = now;
            if (!first) return 'R';
        } else if (now - since_ >= stands_still) {
            return 'S';
        }
        wait = since_ + stands_still;
        return 0;
    }

  private:
    static constexpr base::nanos stands_still = 1'000'000;
    base::nanos clock_ = -1; // at the last look
    base::nanos since_ = 0;  // since when it stands
};

} // namespace mpg::sched
