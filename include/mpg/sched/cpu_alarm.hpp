// A signal to a thread that computes, which interrupts no system call.
//
// A thread that has computed for a slice may enter a system call at any moment. A signal sent to it by tgkill then ends a
// nanosleep, a poll or an epoll_wait with EINTR, whatever SA_RESTART says: which a plain thread would not see. A timer on the
// thread's CPU clock cannot do that: the clock stands while the thread sleeps, and the kernel (Linux 5.10 on, with
// CONFIG_POSIX_CPU_TIMERS_TASK_WORK) looks at such timers on the way back to user code only. Kernels before that send the
// signal from the tick itself, which meets a thread about to sleep once in a great while.
//
// The price: it comes at the kernel's next tick that meets the thread on its CPU (tick(): 1 to 10 ms), half of one later on the
// average; and if others have the CPU from that tick on, when the thread has it again.
#pragma once

#include <csignal>
#include <cstdint>
#include <ctime>

#ifndef sigev_notify_thread_id // the C library's headers have no name for it before 2.36
#    define sigev_notify_thread_id _sigev_un._tid
#endif

namespace mpg::sched {

/// The CPU clock of a thread of this process.
inline ::clockid_t cpu_clock_of(int tid) noexcept {
    return static_cast<::clockid_t>((~static_cast<unsigned>(tid) << 3) | 6); // CPUCLOCK_PERTHREAD, CPUCLOCK_SCHED
}

/// Used by one thread at a time. Its signal has si_code SI_TIMER, and the value that was given.
class cpu_alarm {
  public:
    cpu_alarm() = default;
    /// What the kernel's looks at the clock are apart, in nanoseconds.
    static std::int64_t tick() noexcept {
        ::timespec t{};
        return ::clock_getres(CLOCK_MONOTONIC_COARSE, &t) == 0 && t.tv_sec == 0 ? t.tv_nsec : 0;
    }
    ~cpu_alarm() {
        if (made_) ::timer_delete(timer_);
    }
    cpu_alarm(const cpu_alarm&) = delete;
    cpu_alarm& operator=(const cpu_alarm&) = delete;

    /// The thread gets the signal when it has computed on, for no longer than a tick. Again: once more, when the last one has
    /// come. False: it gets none, since the kernel gives no timer (a filter, RLIMIT_SIGPENDING), or the thread has ended, or
    /// this is a forked child.
    bool set(int tid, int signal, void* value) noexcept {
        if (!made_ && !refused_) {
            ::sigevent event{};
            event.sigev_notify = SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            event.sigev_value.sival_ptr = value;
            event.sigev_notify_thread_id = tid;
            made_ = ::timer_create(cpu_clock_of(tid), &event, &timer_) == 0;
            refused_ = !made_;
        }
        if (!made_) return false;
        // One that has not come so far stays as it is. Set anew, for later than now, it would wait for one more tick; and who
        // sets it anew before each would keep it from coming.
        if (::itimerspec left{}; ::timer_gettime(timer_, &left) == 0 && (left.it_value.tv_sec | left.it_value.tv_nsec) != 0)
            return true;
        // Relative, and so never due at once: then it would be sent from here.
        constexpr ::itimerspec soon{{0, 0}, {0, 1}};
        return ::timer_settime(timer_, 0, &soon, nullptr) == 0;
    }

  private:
    ::timer_t timer_{};
    bool made_ = false, refused_ = false;
};

} // namespace mpg::sched
